// What the ollama package for JavaScript gets from a gateway, as one JSON object on stdout.
import { Ollama } from "ollama";

const [host, calling] = process.argv.slice(2);
const client = new Ollama({ host });
const options = { num_predict: 8, seed: 3 };
const ask = { model: "toy", messages: [{ role: "user", content: "Why is the sea blue?" }], options };
const look = { type: "function", function: { name: "look", description: "Looks", parameters: { type: "object", properties: { at: { type: "string" } } } } };
const found = {};

found.version = (await client.version()).version;
found.models = (await client.list()).models.map((model) => model.name);
found.capabilities = (await client.show({ model: "toy" })).capabilities;

const whole = await client.chat(ask);
found.whole = whole.message.content;
found.tokens = whole.eval_count;
found.streamed = "";
for await (const part of await client.chat({ ...ask, stream: true })) found.streamed += part.message.content;

const generate = { model: "toy", prompt: "The sea", options };
found.response = (await client.generate(generate)).response;
found.lines = "";
for await (const part of await client.generate({ ...generate, stream: true })) found.lines += part.response;
found.json = JSON.parse((await client.generate({ ...generate, options: { seed: 3, num_predict: 200 }, format: { enum: [17] } })).response);

const draw = { model: "klein", prompt: "a boat", width: 64, height: 64, steps: 2, options: { seed: 7 } };
const drawn = await client.generate(draw);
found.picture = Buffer.from(drawn.image, "base64").subarray(1, 4).toString();
found.steps = [];
for await (const part of await client.generate({ ...draw, stream: true })) if (!part.done) found.steps.push([part.completed, part.total]);

found.embedding = (await client.embed({ model: "toy", input: ["The sea", "The land"] })).embeddings.map((one) => one.length);
found.loaded = (await client.ps()).models.map((model) => model.name);
found.unloaded = (await client.generate({ model: "toy", prompt: "", keep_alive: 0 })).done_reason;

const caller = new Ollama({ host: calling });
const answer = await caller.chat({ ...ask, model: "caller", options: {}, tools: [look] });
found.calls = answer.message.tool_calls.map((call) => call.function);
found.thinking = answer.message.thinking;
found.later = [];
for await (const part of await caller.chat({ ...ask, model: "caller", options: {}, tools: [look], stream: true })) found.later.push(...(part.message.tool_calls ?? []).map((call) => call.function));

// A client that has enough of it.
const stream = await client.chat({ ...ask, options: { num_predict: 4000 }, stream: true });
setTimeout(() => stream.abort(), 50);
try {
  for await (const part of stream) void part;
} catch (error) {
  found.aborted = error.name;
}

for (const [name, call] of Object.entries({
  missing: () => client.chat({ ...ask, model: "nobody" }),
  pull: () => client.pull({ model: "qwen3:4b" }),
  create: () => client.create({ model: "mine", from: "no-such-model" }),
  push: () => client.push({ model: "toy" }),
  copy: () => client.copy({ source: "toy", destination: "mine" }),
  delete: () => client.delete({ model: "toy" }),
})) {
  try {
    await call();
  } catch (error) {
    (found.errors ??= {})[name] = [error.status_code, error.message];
  }
}
console.log(JSON.stringify(found));
