// The SDKs for Node in front of a sidecar that nobody stands behind: no provider, no key, only the local model.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const model = "local/smollm2-135m-instruct";
const openai = new OpenAI({ baseURL: `${process.env.BASE_URL}/v1`, apiKey: "unused", maxRetries: 0, timeout: 60000 });
const anthropic = new Anthropic({ baseURL: process.env.BASE_URL, apiKey: "unused", maxRetries: 0, timeout: 60000 });
const turns = ["I have a dog called Rex.", "What is my dog called?"];

async function talk(one) {
  const messages = [];
  const said = [];
  for (const content of turns) {
    messages.push({ role: "user", content });
    said.push(await one(messages));
    messages.push({ role: "assistant", content: said.at(-1) });
  }
  assert.match(said[1], /Rex/);
}

export const checks = {
  async openai_conversation() {
    await talk(async (messages) => {
      const reply = await openai.chat.completions.create({ model, messages, temperature: 0, max_tokens: 30 });
      assert.ok(reply.usage.completion_tokens > 0);
      return reply.choices[0].message.content;
    });
  },
  async openai_stream() {
    let text = "";
    for await (const chunk of await openai.chat.completions.create({ model, messages: [{ role: "user", content: "Say hello." }], max_tokens: 10, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? "";
    }
    assert.ok(text.trim());
  },
  async anthropic_conversation() {
    await talk(async (messages) => {
      const reply = await anthropic.messages.create({ model, messages, temperature: 0, max_tokens: 30 });
      assert.ok(reply.usage.output_tokens > 0);
      return reply.content[0].text;
    });
  },
  async anthropic_stream() {
    const stream = anthropic.messages.stream({ model, max_tokens: 10, messages: [{ role: "user", content: "Say hello." }] });
    assert.ok((await stream.finalText()).trim());
  },
};
