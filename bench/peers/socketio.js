// Socket.IO with its Redis adapter: rooms as channels.
const http = require('http');
const { Server } = require('socket.io');
const { createAdapter } = require('@socket.io/redis-adapter');
const Redis = require('ioredis');
const [port, redisPort] = process.argv.slice(2).map(Number);
const pub = new Redis(redisPort);
const server = http.createServer();
const io = new Server(server, { adapter: createAdapter(pub, pub.duplicate()), pingInterval: 3600000 });
io.on('connection', (socket) => {
  socket.on('join', (channels) => { socket.join(channels); socket.emit('joined'); });
  socket.on('publish', (channel, data, done) => { io.to(channel).emit('m', data); done(); });
});
server.listen(port, '127.0.0.1');
