// One `ws` server, as its documentation sets one up for production: compression off (its default),
// bufferutil installed, a WebSocket ping to every client every 30 seconds.
//
// A client's frames are `join CHANNEL`, answered `joined CHANNEL`, and `pub CHANNEL PAYLOAD`, which
// has every member of the channel get PAYLOAD. From the environment: PORT.
import { createServer } from "node:http";
import { WebSocketServer, WebSocket } from "ws";

const PING_EVERY_MS = 30_000;

const channels = new Map();

function join(client, channel) {
  let members = channels.get(channel);
  if (members === undefined) channels.set(channel, (members = new Set()));
  members.add(client);
  client.joined.push(members);
  client.send(`joined ${channel}`);
}

function publish(channel, payload) {
  for (const member of channels.get(channel) ?? []) {
    if (member.readyState === WebSocket.OPEN) member.send(payload);
  }
}

const http = createServer((request, response) => response.writeHead(200).end());
const server = new WebSocketServer({ server: http, perMessageDeflate: false, clientTracking: true });

server.on("connection", (client) => {
  client.joined = [];
  client.isAlive = true;
  client.on("pong", () => { client.isAlive = true; });
  client.on("error", (error) => console.error(`client: ${error.message}`));
  client.on("close", () => client.joined.forEach((members) => members.delete(client)));
  client.on("message", (data) => {
    const text = data.toString();
    const space = text.indexOf(" ");
    const verb = text.slice(0, space);
    if (verb === "pub") {
      const end = text.indexOf(" ", space + 1);
      publish(text.slice(space + 1, end), text.slice(end + 1));
    } else if (verb === "join") {
      join(client, text.slice(space + 1));
    } else {
      client.close(1008, "join or pub");
    }
  });
});

setInterval(() => {
  for (const client of server.clients) {
    if (!client.isAlive) {
      client.terminate();
      continue;
    }
    client.isAlive = false;
    client.ping();
  }
}, PING_EVERY_MS);

http.listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 4096 });
