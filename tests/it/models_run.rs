//! `weir models run`, with a model of a few kilobytes.

use crate::tiny;
use serde_json::Value;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

struct Bench {
    folder: tempfile::TempDir,
    model: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("Tiny.Q8_0.gguf");
        tiny::write(&model);
        Self { folder, model }
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.env_clear().current_dir(self.folder.path()).arg("--models-dir").arg("models");
        command.args(["models", "run", name]).args(arguments).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(self.model.to_str().unwrap(), arguments).output().unwrap()
    }

    /// What it answers; that it does.
    fn answer(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Why it does not.
    fn refusal(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.command(name, arguments).output().unwrap();
        assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn a_file_answers_and_the_same_seed_answers_the_same() {
    let bench = Bench::new();
    let asked = ["Say something.", "--max-tokens", "40", "--temperature", "1.5", "--seed"];
    let with_seed = |seed: &str| bench.answer(&[&asked[..], &[seed]].concat());
    let first = with_seed("1");
    assert!(first.trim_end().len() > 1 && first.ends_with('\n'), "{first}");
    assert_eq!(with_seed("1"), first);
    assert_ne!(with_seed("2"), first);
}

#[test]
fn what_the_system_says_is_read_and_a_question_may_come_on_standard_input() {
    let bench = Bench::new();
    // A model of noise forgets at once where it always says what is likeliest.
    let drawn = ["--temperature", "1.5", "--seed", "7", "--max-tokens", "30"];
    let plain = bench.answer(&[&["Say something."], &drawn[..]].concat());
    assert_ne!(bench.answer(&[&["Say something.", "--system", "Be brief."], &drawn[..]].concat()), plain);

    let mut command = bench.command(bench.model.to_str().unwrap(), &drawn);
    let mut asked =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    asked.stdin.take().unwrap().write_all(b"Say something.").unwrap();
    assert_eq!(String::from_utf8(asked.wait_with_output().unwrap().stdout).unwrap(), plain);
}

#[test]
fn json_is_json_and_fits_its_schema() {
    let bench = Bench::new();
    let object: Value = serde_json::from_str(&bench.answer(&["x", "--json", "--max-tokens", "60"])).unwrap();
    assert!(object.is_object());

    let schema = r#"{"type":"object","properties":{"sky":{"enum":["blue","grey"]}},"required":["sky"],"additionalProperties":false}"#;
    std::fs::write(bench.folder.path().join("sky.json"), schema).unwrap();
    let fitting: Value = serde_json::from_str(&bench.answer(&["x", "--schema", "sky.json"])).unwrap();
    assert!(["blue", "grey"].contains(&fitting["sky"].as_str().unwrap()), "{fitting}");

    std::fs::write(bench.folder.path().join("bad.json"), "{").unwrap();
    let name = bench.model.display().to_string();
    assert!(bench.refusal(&name, &["x", "--schema", "bad.json"]).contains("bad.json: is no JSON"));
    assert!(bench.refusal(&name, &["x", "--schema", "none.json"]).contains("none.json"));
    assert!(
        bench.refusal(&name, &["x", "--json", "--schema", "sky.json"]).contains("cannot be used with"),
        "one form only"
    );
}

#[test]
fn how_long_it_took_is_told_where_that_is_asked() {
    let bench = Bench::new();
    let output = bench.run(&["x", "--temperature", "0", "--max-tokens", "5", "--stats"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("[loaded in ") && told.contains(" tokens read, first word after "), "{told}");
    assert!(told.contains("5 tokens written") && told.contains("cut at the limit"), "{told}");
    assert_eq!(String::from_utf8(bench.run(&["x", "--max-tokens", "5"]).stderr).unwrap(), "");
}

#[test]
fn what_cannot_answer_is_told_with_what_to_do() {
    let bench = Bench::new();
    let fetch = "smollm2-135m-instruct is not here: run `weir models fetch smollm2-135m-instruct`";
    assert!(bench.refusal("smollm2-135m-instruct", &["x"]).contains(fetch));
    assert!(bench.refusal("gpt", &["x"]).contains("there is no model called `gpt`, and no such file"));
    assert!(
        bench.refusal("minilm", &["x"]).contains("minilm is no language model: it is for text to vectors")
    );
    let name = bench.model.display().to_string();
    assert!(bench.refusal(&name, &[" "]).contains("there is nothing to answer"));
    assert!(
        bench.refusal(&name, &["x", "--temperature", "-1"]).contains("a temperature is a number from 0 to 2")
    );
    assert!(bench.refusal(&name, &["x", "--temperature", "NaN"]).contains("a temperature"));
    std::fs::write(bench.folder.path().join("other.gguf"), "no model").unwrap();
    assert!(
        bench
            .refusal("other.gguf", &["x"])
            .contains("other.gguf: the model file cannot be used: it is no GGUF file")
    );
}

#[test]
fn ctrl_c_ends_it_in_an_orderly_way() {
    let bench = Bench::new();
    // A model of noise talks until it is stopped.
    let endless = ["x", "--max-tokens", "4000", "--temperature", "0"];
    let mut command = bench.command(bench.model.to_str().unwrap(), &endless);
    let mut asked = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_words(asked.stdout.as_mut().unwrap());
    let killed = Command::new("kill").args(["-INT", &asked.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = asked.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.ends_with(b"\n"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("interrupted: the answer is not whole"), "{said}");
}

fn wait_for_words(from: &mut impl std::io::Read) {
    from.read_exact(&mut [0]).unwrap();
}

#[test]
fn its_help_names_what_can_be_asked() {
    let output = Bench::new().command("x", &["--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let (help, _) = help.split_once("Settings:").unwrap();
    insta::assert_snapshot!(help, @r"
    Ask a language model something; its answer is printed as it is written

    Usage: weir models run [OPTIONS] <NAME> [TEXT]

    Arguments:
      <NAME>  The model: a name from `weir models list`, or a GGUF file
      [TEXT]  What it is asked [default: what standard input says]

    Options:
          --system <TEXT>         What the system says first
          --max-tokens <COUNT>    The most tokens of the answer [default: 512]
          --temperature <NUMBER>  How freely it chooses its words; 0 is always the likeliest
          --seed <NUMBER>         Draw the same again
          --json                  Answer with a JSON object
          --schema <FILE>         Answer with JSON that fits the schema in this file
          --stats                 Say on standard error how long it took
      -h, --help                  Print help
    ");
}
