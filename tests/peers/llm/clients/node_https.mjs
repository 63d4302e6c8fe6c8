// node:https (or node:http) with an agent that keeps connections alive.

import http from "node:http";
import https from "node:https";

import { askAll, ca, concurrency, endpoint } from "./exchange.mjs";

const library = endpoint.startsWith("https:") ? https : http;
const agent = new library.Agent({ keepAlive: true, maxSockets: concurrency, ca });

function send(body) {
  const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const request = library.request(endpoint, { method: "POST", agent, headers }, (response) =>
      resolve({ status: response.statusCode, body: response }),
    );
    request.on("error", reject);
    request.end(body);
  });
}

await askAll(send);
agent.destroy();
