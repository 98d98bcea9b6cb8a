// A chat client on a terminal: see server.js for how to run it. Ctrl-D ends it.
"use strict";
const readline = require("node:readline");
const { io } = require("socket.io-client");

const [url = "http://127.0.0.1:3000", name = "guest"] = process.argv.slice(2);
const socket = io(url);

socket.on("connect", () => console.log("* joined"));
socket.on("disconnect", reason => console.log(`* not connected: ${reason}`));
socket.on("said", text => console.log(text));

readline.createInterface({ input: process.stdin })
  .on("line", line => socket.emit("say", `${name}: ${line}`))
  .on("close", () => socket.close());
