// What the openai package for JavaScript gets from a gateway, as one JSON object on stdout.
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const ask = { model: "toy", messages: [{ role: "user", content: "Why is the sea blue?" }], max_completion_tokens: 8, seed: 3 };
const wait = { type: "function", function: { name: "wait", parameters: { type: "object", properties: {}, additionalProperties: false } } };
const found = {};

found.models = (await client.models.list()).data.map((model) => model.id);
found.whole = (await client.chat.completions.create(ask)).choices[0].message.content;

found.streamed = "";
for await (const chunk of await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } })) {
  found.streamed += chunk.choices[0]?.delta.content ?? "";
  found.tokens = chunk.usage?.completion_tokens;
}

// The package's own gathering of a stream's deltas, tool calls among them.
const gathered = client.chat.completions.stream({ ...ask, max_completion_tokens: 100, tools: [wait], tool_choice: "required" });
found.call = (await gathered.finalChatCompletion()).choices[0].message.tool_calls[0].function;

found.completion = (await client.completions.create({ model: "toy", prompt: "The sea", max_tokens: 4, seed: 3 })).choices[0].text;
found.embedding = (await client.embeddings.create({ model: "toy", input: "The sea" })).data[0].embedding.length;

const draw = { model: "klein", prompt: "a boat", size: "64x64", steps: 2, seed: 7 };
const drawn = await client.images.generate(draw);
found.seed = drawn.seed;
const image = await toFile(Buffer.from(drawn.data[0].b64_json, "base64"), "boat.png", { type: "image/png" });
found.edited = (await client.images.edit({ ...draw, image: [image, image] })).size;
found.events = [];
for await (const event of await client.images.generate({ ...draw, stream: true, partial_images: 1 })) found.events.push(event.type);

try {
  await client.chat.completions.create({ ...ask, model: "nobody" });
} catch (error) {
  found.error = { kind: error.constructor.name, status: error.status, code: error.code, param: error.param };
}
console.log(JSON.stringify(found));
