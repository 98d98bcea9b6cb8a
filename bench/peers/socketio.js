// Socket.IO with its Redis adapter: rooms as channels.
const { once } = require('events');
const http = require('http');
const { Server } = require('socket.io');
const { createAdapter } = require('@socket.io/redis-adapter');
const Redis = require('ioredis');
const [port, redisPort] = process.argv.slice(2).map(Number);
const pub = new Redis(redisPort);
const sub = pub.duplicate();
const server = http.createServer();
const io = new Server(server, { adapter: createAdapter(pub, sub), pingInterval: 3600000 });
io.on('connection', (socket) => {
  socket.on('join', (channels) => { socket.join(channels); socket.emit('joined'); });
  socket.on('publish', (channel, data, done) => { io.to(channel).emit('m', data); done(); });
});
Promise.all([pub, sub].map((each) => once(each, 'ready'))).then(() => server.listen(port, '127.0.0.1'));
