// A Socket.IO chat server that shares its room with other servers through fanout.
//
// Two servers, each with a sidecar of its own. Start a fleet and a second sidecar; PORT is the one
// that the first command prints behind `discovery redis=127.0.0.1:`:
//
//   fanout-sidecar --local 3
//   fanout-sidecar --discovery redis://127.0.0.1:PORT --resp 127.0.0.1:6381 --ws 127.0.0.1:7381 --admin 127.0.0.1:9381
//
// Then, each line in a terminal of its own:
//
//   npm install                                       # in this folder, once
//   node server.js 3000 redis://127.0.0.1:6380
//   node server.js 3001 redis://127.0.0.1:6381
//   node client.js http://127.0.0.1:3000 ann
//   node client.js http://127.0.0.1:3001 ben
"use strict";
const { createAdapter } = require("@socket.io/redis-adapter");
const Redis = require("ioredis");
const { Server } = require("socket.io");

const [port = "3000", sidecar = "redis://127.0.0.1:6380"] = process.argv.slice(2);

// To ioredis a sidecar is a Redis. One connection publishes, another one subscribes.
const publisher = new Redis(sidecar);
const subscriber = publisher.duplicate();
for (const connection of [publisher, subscriber]) {
  connection.on("error", error => console.error(`sidecar: ${error.message}`));
}

const io = new Server({ adapter: createAdapter(publisher, subscriber) });
io.on("connection", socket => {
  socket.join("chat");
  socket.on("say", text => io.to("chat").emit("said", text)); // on all servers
});

// Take clients only once the adapter has subscribed: a publish before that would not come back.
subscriber.once("ready", async () => {
  await subscriber.ping();
  io.listen(Number(port));
  io.httpServer.once("listening", () => console.log(`ready http://127.0.0.1:${port}`));
});
