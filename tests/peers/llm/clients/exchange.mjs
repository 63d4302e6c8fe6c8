// What the clients in JavaScript share; what they take and print is said in exchange.py.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

const { values: given } = parseArgs({
  options: {
    url: { type: "string" },
    prompts: { type: "string" },
    concurrency: { type: "string", default: "1" },
    stream: { type: "boolean", default: false },
    ca: { type: "string" },
    "max-tokens": { type: "string", default: "0" },
  },
});

export const endpoint = `${given.url}/v1/chat/completions`;
export const concurrency = Number(given.concurrency);
export const ca = given.ca && readFileSync(given.ca);
const prompts = JSON.parse(readFileSync(given.prompts, "utf8"));

function request(prompt) {
  const body = {
    model: "gpt-4o-mini",
    messages: [
      { role: "system", content: "You are a test." },
      { role: "user", content: prompt },
    ],
  };
  if (Number(given["max-tokens"])) body.max_tokens = Number(given["max-tokens"]);
  if (given.stream) body.stream = true;
  return JSON.stringify(body);
}

function answer(body) {
  if (!given.stream) return JSON.parse(body).choices[0].message.content;
  const events = body.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
  if (events.pop() !== "[DONE]") throw new Error("the stream ended without [DONE]");
  return events.flatMap((event) => JSON.parse(event).choices).map((choice) => choice.delta.content ?? "").join("");
}

// Asks every prompt with `send(body)`, which gives the status and an async iterable of bytes.
export async function askAll(send) {
  let next = 0;
  async function worker() {
    while (next < prompts.length) {
      const index = next++;
      let status = 0;
      try {
        const response = await send(request(prompts[index]));
        status = response.status;
        const pieces = [];
        for await (const piece of response.body) pieces.push(piece);
        const body = Buffer.concat(pieces).toString("utf8");
        if (status !== 200) throw new Error(`status ${status}: ${body.slice(0, 200)}`);
        console.log(`${index} ${createHash("sha256").update(answer(body)).digest("hex")} ${status}`);
      } catch (error) {
        console.error(`${index}: ${error} ${error.cause ?? ""}`);
        console.log(`${index} - ${status}`);
        process.exitCode = 1;
      }
    }
  }
  await Promise.all(Array.from({ length: concurrency }, worker));
}
