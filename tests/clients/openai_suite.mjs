// The OpenAI SDK for Node in front of BASE_URL.
import assert from "node:assert/strict";
import OpenAI from "openai";

const expected = JSON.parse(process.env.EXPECTED);
const client = new OpenAI({ baseURL: `${process.env.BASE_URL}/v1`, apiKey: "unused", maxRetries: 0, timeout: 20000 });
const model = "fake-model";
const user = (content) => [{ role: "user", content }];
const tools = [{ type: "function", function: { name: "get_weather", parameters: { type: "object", properties: { city: { type: "string" } } } } }];

export const checks = {
  async chat() {
    const reply = await client.chat.completions.create({ model, messages: user("What is the capital of France? n1") });
    assert.equal(reply.choices[0].message.content, expected.text);
  },
  async stream() {
    let text = "";
    for await (const chunk of await client.chat.completions.create({ model, messages: user("What is the capital of France? n2"), stream: true })) {
      assert.equal(chunk.choices.length, 1);
      text += chunk.choices[0].delta.content ?? "";
    }
    assert.equal(text, expected.text);
  },
  async tools_stream() {
    const runner = client.chat.completions.stream({ model, messages: user("Weather by node?"), tools });
    const final = await runner.finalChatCompletion();
    assert.deepEqual(final.choices[0].message.tool_calls.map((call) => JSON.parse(call.function.arguments)), expected.calls);
  },
  async responses() {
    assert.equal((await client.responses.create({ model, input: "What is the capital of France? n3" })).output_text, expected.text);
    const stream = client.responses.stream({ model, input: "What is the capital of France? n4" });
    assert.equal((await stream.finalResponse()).output_text, expected.text);
  },
  async error() {
    await assert.rejects(client.chat.completions.create({ model: "limited-8", messages: user("I am limited.") }), (error) => error instanceof OpenAI.RateLimitError && error.requestID?.length > 0);
  },
};
