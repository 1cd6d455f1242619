//! The providers we know: what they speak, where they are, and where their keys are found.
//!
//! One table serves both the `kind` of an `[[upstream]]` and the start without any configuration.

use crate::upstream::provider::ProviderKind;

/// A provider we know.
#[derive(Debug)]
pub(super) struct Preset {
    /// What the configuration calls it.
    pub(super) name: &'static str,
    /// What it speaks.
    pub(super) kind: ProviderKind,
    /// Where it is; none where everybody has their own.
    pub(super) base_url: Option<&'static str>,
    /// The variables its own tools read the key from; the first that is set counts.
    pub(super) keys: &'static [&'static str],
    /// The models it is asked for when there are others: a request should not go to who cannot know it. None
    /// for those that are never found by a key alone.
    pub(super) models: &'static [&'static str],
}

const fn compatible(
    name: &'static str,
    base_url: &'static str,
    keys: &'static [&'static str],
    models: &'static [&'static str],
) -> Preset {
    Preset { name, kind: ProviderKind::Generic, base_url: Some(base_url), keys, models }
}

/// Anything OpenAI-compatible, wherever it is.
pub(super) const GENERIC: Preset =
    Preset { name: "generic", kind: ProviderKind::Generic, base_url: None, keys: &[], models: &[] };

/// In the order of the chain: those with models of their own before those who pass on everybody's.
pub(super) const PRESETS: &[Preset] = &[
    Preset {
        name: "openai",
        kind: ProviderKind::OpenAi,
        base_url: Some("https://api.openai.com/v1"),
        keys: &["OPENAI_API_KEY"],
        models: &["gpt-*", "chatgpt-*", "o1*", "o3*", "o4*", "codex-*", "text-*", "ft:*"],
    },
    Preset {
        name: "anthropic",
        kind: ProviderKind::Anthropic,
        base_url: Some("https://api.anthropic.com/v1"),
        keys: &["ANTHROPIC_API_KEY"],
        models: &["claude-*"],
    },
    Preset {
        name: "gemini",
        kind: ProviderKind::Gemini,
        base_url: Some("https://generativelanguage.googleapis.com/v1beta"),
        keys: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        models: &["gemini-*", "gemma-*", "models/*"],
    },
    compatible(
        "mistral",
        "https://api.mistral.ai/v1",
        &["MISTRAL_API_KEY"],
        &["mistral-*", "ministral-*", "magistral-*", "codestral-*", "devstral-*", "pixtral-*", "open-mi*"],
    ),
    compatible("deepseek", "https://api.deepseek.com/v1", &["DEEPSEEK_API_KEY"], &["deepseek-*"]),
    compatible(
        "qwen",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        &["DASHSCOPE_API_KEY"],
        &["qwen-*", "qwen2*", "qwen3*", "qwq-*", "qvq-*"],
    ),
    compatible(
        "groq",
        "https://api.groq.com/openai/v1",
        &["GROQ_API_KEY"],
        &["llama-*", "meta-llama/*", "openai/gpt-oss-*", "qwen/*", "moonshotai/*", "groq/*"],
    ),
    compatible(
        "together",
        "https://api.together.xyz/v1",
        &["TOGETHER_API_KEY"],
        &["meta-llama/*", "Qwen/*", "deepseek-ai/*", "mistralai/*", "moonshotai/*", "zai-org/*"],
    ),
    compatible("openrouter", "https://openrouter.ai/api/v1", &["OPENROUTER_API_KEY"], &["*/*"]),
    compatible("xroute", "https://api.xroute.ai/openai/v1", &["XROUTE_API_KEY"], &["*/*"]),
    Preset {
        name: "ollama",
        kind: ProviderKind::Ollama,
        base_url: Some("http://127.0.0.1:11434"),
        keys: &[],
        models: &[],
    },
    // Everybody has an address of their own there.
    Preset {
        name: "azure",
        kind: ProviderKind::Azure,
        base_url: None,
        keys: &["AZURE_OPENAI_API_KEY"],
        models: &[],
    },
    compatible("lmstudio", "http://127.0.0.1:1234/v1", &[], &[]),
    compatible("llamacpp", "http://127.0.0.1:8080/v1", &[], &[]),
    compatible("vllm", "http://127.0.0.1:8000/v1", &[], &[]),
    compatible("litellm", "http://127.0.0.1:4000/v1", &["LITELLM_API_KEY"], &[]),
    GENERIC,
];

/// The preset of this name.
pub(super) fn named(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}
