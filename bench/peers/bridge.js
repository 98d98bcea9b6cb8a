// The common bridge: ws in front of ioredis, one JSON frame per message.
const { WebSocketServer } = require('ws');
const Redis = require('ioredis');
const [port, redisPort] = process.argv.slice(2).map(Number);
const redis = new Redis(redisPort);
const channels = new Map();
redis.on('message', (channel, data) => {
  const frame = JSON.stringify({ type: 'message', channel, data });
  for (const client of channels.get(channel) || []) client.send(frame);
});
const serve = (client) => {
  client.send('{"type":"hello"}');
  const mine = new Set();
  client.on('message', async (text) => {
    const request = JSON.parse(text);
    for (const channel of request.channels) {
      mine.add(channel);
      if (!channels.has(channel)) channels.set(channel, new Set());
      channels.get(channel).add(client);
    }
    await redis.subscribe(...request.channels);
    client.send(JSON.stringify({ type: 'ok', id: request.id }));
  });
  client.on('close', () => { for (const channel of mine) channels.get(channel).delete(client); });
};
// Not before: a SUBSCRIBE amid the check for readiness has ioredis drop its connection.
redis.once('ready', () => {
  new WebSocketServer({ host: '127.0.0.1', port, perMessageDeflate: false }).on('connection', serve);
});
