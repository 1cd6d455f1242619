//! What the rules promise as a whole.

use super::engine::EASES;
use super::pattern::{Catch, Ground, Parser, Program};
use super::template::value;
use super::vocabulary::List;
use super::words::Words;
use super::*;
use crate::intent::heard::Heard;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn rules(text: &str) -> RuleSet {
    parse(text).unwrap_or_else(|error| panic!("{error}"))
}

/// One rule with these patterns, which answers with all its slots.
fn matching(pattern: &str) -> RuleSet {
    rules(&format!("[[rule]]\nname = 'r'\nmatch = '''{pattern}'''\nanswer = 'x'\n"))
}

fn slots_of(rules: &RuleSet, text: &str) -> Option<BTreeMap<String, String>> {
    rules.classify("p", text).map(|verdict| verdict.slots.into_iter().collect())
}

fn answer(rules: &RuleSet, project: &str, text: &str) -> Option<(String, String)> {
    let verdict = rules.classify(project, text)?;
    let Action::Answer(answer) = verdict.action else {
        return Some((verdict.rule.to_owned(), String::new()));
    };
    Some((verdict.rule.to_owned(), answer))
}

const REGEX_RULES: &str = r#"
    [[rule]]
    name = "volume"
    pattern = '(?i)^turn (?<direction>up|down) track (?<track>\d+|\{direction\})$'
    answer = "Track {track} {direction}. {untouched}"
    projects = ["music"]

    [[rule]]
    name = "ping"
    pattern = "^ping$"
    answer = "pong"
"#;

#[test]
fn the_first_expression_that_matches_answers_with_its_slots_filled() {
    let answered = answer(&rules(REGEX_RULES), "music", "  Turn up track 3\n").unwrap();
    assert_eq!(answered, ("volume".into(), "Track 3 up. {untouched}".into()));
}

#[test]
fn what_a_slot_caught_is_never_a_slot_itself() {
    let answered = answer(&rules(REGEX_RULES), "music", "turn up track {direction}").unwrap();
    assert_eq!(answered.1, "Track {direction} up. {untouched}");
}

#[test]
fn a_rule_of_another_project_is_silent() {
    let rules = rules(REGEX_RULES);
    assert_eq!(answer(&rules, "default", "turn up track 3"), None);
    assert_eq!(answer(&rules, "default", "ping").unwrap().0, "ping");
    assert_eq!(answer(&rules, "default", "ping pong"), None);
}

#[test]
fn what_people_say_around_a_command_makes_no_difference() {
    let rules = matching("mute {t:word}");
    for text in [
        "mute bass",
        "Hey, could you mute the bass please?",
        "ok so MUTE BASS, thanks",
        "plaese mute bass now",
    ] {
        assert_eq!(slots_of(&rules, text).unwrap()["t"].to_lowercase(), "bass", "{text}");
    }
    for text in ["how do I mute bass", "do not mute bass", "mute"] {
        assert_eq!(slots_of(&rules, text), None, "{text}");
    }
}

#[test]
fn slots_may_be_bounded_required_and_given_a_default() {
    let rules = rules(
        "[[rule]]\nname = 'r'\nmatch = ['volume {n:number}', 'volume {n:number} in {room:word}', 'volume']\nanswer = '{n} {room}'\n\
         [rule.slots]\nn = { min = 0, max = 11, required = true }\nroom = { default = 'hall' }\n",
    );
    assert_eq!(answer(&rules, "p", "volume 7").unwrap().1, "7 hall");
    assert_eq!(answer(&rules, "p", "volume seven in kitchen").unwrap().1, "7 kitchen");
    assert_eq!(answer(&rules, "p", "volume 12"), None);
    assert_eq!(answer(&rules, "p", "volume"), None);
}

#[test]
fn the_higher_priority_wins_and_then_what_says_more() {
    let rules = rules(
        "[[rule]]\nname = 'any'\nmatch = 'play {x:text}'\nanswer = 'any'\n\
         [[rule]]\nname = 'jazz'\nmatch = 'play jazz'\nanswer = 'jazz'\n\
         [[rule]]\nname = 'first'\nmatch = 'play {x:text} first'\npriority = 1\nanswer = 'first'\n",
    );
    assert_eq!(answer(&rules, "p", "play jazz").unwrap().0, "jazz");
    assert_eq!(answer(&rules, "p", "play blues").unwrap().0, "any");
    assert_eq!(answer(&rules, "p", "play jazz first").unwrap().0, "first");
}

#[test]
fn conditions_on_the_request_decide_too() {
    let rules = rules(
        "[[rule]]\nname = 'short'\nroute = 'local/small'\nwhen = { max_words = 3, models = ['gpt-*'], hours = '22:00-06:00' }\n\
         [[rule]]\nname = 'bill'\nroute = 'billing'\nwhen = { keywords = ['invoice'], language = 'en', headers = { x-team = 'a*' } }\n",
    );
    let headers = [("X-Team".to_owned(), "alpha".to_owned())];
    let decide = |text: &str, model: &str, minute: u16, headers: &[(String, String)]| {
        let around = Circumstances { model, headers, minute: Some(minute), ..Circumstances::default() };
        rules.decide("p", text, &around).map(|verdict| verdict.rule.to_owned())
    };
    assert_eq!(decide("why is this", "gpt-4o", 23 * 60, &[]).as_deref(), Some("short"));
    assert_eq!(decide("why is this", "gpt-4o", 5 * 60, &[]).as_deref(), Some("short"));
    assert_eq!(decide("why is this", "gpt-4o", 12 * 60, &[]), None);
    assert_eq!(decide("why is this", "claude", 23 * 60, &[]), None);
    assert_eq!(decide("why is this so very long", "gpt-4o", 23 * 60, &[]), None);
    assert_eq!(decide("where is my invoice and what is on it", "m", 0, &headers).as_deref(), Some("bill"));
    assert_eq!(decide("where is my invoice and what is on it", "m", 0, &[]), None);
    assert_eq!(decide("wo ist die invoice und was ist das bitte", "m", 0, &headers), None);
    assert_eq!(decide("where are my invoices and what is on it", "m", 0, &headers), None);
}

const PARTS: &str = "split = 'SPLIT'\n[[rule]]\nname = 'mute'\nmatch = 'mute {t:word}'\nanswer = 'muted {t}'\n\
    [[rule]]\nname = 'pan'\nmatch = 'pan {t:word} {s:word}'\nanswer = '{t} to {s}'\n";

fn parts(split: &str, text: &str) -> Option<Vec<String>> {
    match rules(&PARTS.replace("SPLIT", split)).classify("p", text)?.action {
        Action::Several(actions) => Some(
            actions
                .into_iter()
                .map(|action| match action {
                    Action::Answer(text) => text,
                    other => format!("{other:?}"),
                })
                .collect(),
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_utterance_of_several_parts_is_answered_in_all_of_them_or_not_at_all() {
    assert_eq!(parts("all", "mute bass and pan piano left").unwrap(), ["muted bass", "piano to left"]);
    assert_eq!(parts("all", "mute bass, then pan piano left, and mute 5").unwrap().len(), 3);
    assert_eq!(parts("all", "mute bass and write me a poem"), None);
    assert_eq!(parts("off", "mute bass and mute piano"), None);
    let some = parts("parts", "mute bass and write me a poem").unwrap();
    assert_eq!(some, ["muted bass", "Not understood: write me a poem"]);
}

#[test]
fn a_verb_that_is_said_once_holds_for_both() {
    assert_eq!(parts("all", "mute bass and piano").unwrap(), ["muted bass", "muted piano"]);
}

#[test]
fn what_a_local_service_is_sent_stays_where_it_is_put() {
    let rules = rules(
        "[[rule]]\nname = 'weather'\nmatch = 'weather in {city:text}'\nhttp = { url = 'http://127.0.0.1:9/{city}?q={city}', answer = '{city}: {body.sky}' }\n",
    );
    let Action::Http(call) = rules.classify("p", "weather in x/../y?z=1&w").unwrap().action else { panic!() };
    assert_eq!(call.url, "http://127.0.0.1:9/x%2F..%2Fy%3Fz%3D1%26w?q=x%2F..%2Fy%3Fz%3D1%26w");
    assert_eq!(call.answer.as_deref(), Some("x/../y?z=1&w: {body.sky}"));
    let bad = parse("[[rule]]\nname = 'x'\nmatch = 'go {h:word}'\nhttp = { url = 'http://{h}/' }\n");
    assert!(bad.unwrap_err().to_string().contains("must name its host"));
}

#[test]
fn hostile_patterns_and_texts_cost_no_time() {
    let deep = "[a] ".repeat(60) + "b";
    let rules = rules(&format!(
        "[[rule]]\nname = 'p'\nmatch = '{deep}'\nanswer = 'x'\n\
         [[rule]]\nname = 't'\nmatch = 'x {{a:text}} {{b:text}} {{c:text}} {{d:text}} y'\nanswer = 'x'\n\
         [[rule]]\nname = 'f'\nframes = '{{a:number}} & {{b:number}} & {{c:number}} & {{d:number}} & {{e:number}} & q'\nanswer = 'x'\n\
         [[rule]]\nname = 'r'\npattern = '^(a+)+$'\nanswer = 'x'\n"
    ));
    let texts = [
        "a ".repeat(63),
        format!("x {}", "z ".repeat(60)),
        format!("q {}", "1 2, ".repeat(30)),
        "a".repeat(100_000) + "!",
        "and, ".repeat(20_000),
        "\u{0301}".repeat(5_000),
        "(".repeat(10_000),
        "- ".repeat(5_000),
        "9".repeat(10_000),
    ];
    let began = std::time::Instant::now();
    for text in &texts {
        let _ = rules.classify("p", text);
        let _ = rules.explain("p", text, &Circumstances::default(), None, None);
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn the_shipped_rules_keep_their_promises() {
    let report = shipped().check(None);
    assert_eq!(report.faults, [], "{report:#?}");
}

#[test]
fn a_rule_that_breaks_its_promises_is_told() {
    let report = rules(
        "[[rule]]\nname = 'a'\nmatch = 'mute {t:word}'\nanswer = 'x'\nexamples = ['mute bass', 'solo bass', { text = 'mute it', slots = { t = 'bass' } }]\nnot = ['mute all']\n\
         [[rule]]\nname = 'b'\nmatch = 'mute {u:word}'\nanswer = 'x'\nexamples = ['mute piano']\n\
         [[rule]]\nname = 'c'\nmatch = 'stop'\nanswer = 'x'\n",
    )
    .check(None);
    let told: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "a: no rule answers its example \"solo bass\"",
            "a: its example \"mute it\" gives {\"t\": \"it\"}",
            "a: it answers its counter-example \"mute all\"",
            "b: its example \"mute piano\" is answered by a",
            "c: it has no examples",
            "b: its pattern \"mute {u:word}\" is never reached; a answers in its place",
        ]
    );
    assert!(!report.is_ok());
}

#[test]
fn it_is_told_why_a_rule_does_not_answer() {
    let rules = rules(
        "[[rule]]\nname = 'mute'\nmatch = 'mute {t:word} now'\nanswer = 'x'\nprojects = ['music']\n\
         [[rule]]\nname = 'late'\nmatch = 'mute {t:word}'\nanswer = 'x'\nwhen = { models = ['small'] }\n",
    );
    let why = |project: &str, text: &str| -> Vec<String> {
        let tried = rules.explain(project, text, &Circumstances::default(), None, None);
        tried.why_not.into_iter().map(|why| format!("{}: {}", why.rule, why.reason)).collect()
    };
    assert_eq!(
        why("other", "mute bass now"),
        ["mute: it does not hold in this project", "late: when.models does not hold"]
    );
    assert_eq!(why("music", "mute bass")[0], "late: when.models does not hold");
}

/// A rule that is learned, with this `find`.
fn finding(find: &str) -> RuleSet {
    rules(&format!(
        "[[vocabulary]]\nname = 'track'\nvalues = ['bass', 'lead vocal = lead vox']\n[[rule]]\nname = 'r'\nfind = '{find}'\nanswer = 'x'\nexamples = ['a', 'b']\n"
    ))
}

fn found(rules: &RuleSet, text: &str) -> Option<Vec<(String, String)>> {
    let slots = rules.found(0, text)?;
    Some(slots.into_iter().filter(|(name, _)| !name.starts_with('_')).collect())
}

#[test]
fn the_slots_of_a_learned_rule_are_found_wherever_they_are_said() {
    let rules = finding("{t:track} & {db:number} dB?");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let both = Some(vec![pair("t", "lead vocal"), pair("db", "-3")]);
    for text in [
        "I think the lead vox should go by minus three db or so, it is far too loud for me",
        "say -3 dB less of that awful lead vocal",
    ] {
        assert_eq!(found(&rules, text), both, "{text}");
    }
    assert_eq!(found(&rules, "where did the lead vox go"), None, "no number");
    let misspelt = found(&finding("{t:track}"), "where did the lead voocal go");
    assert_eq!(misspelt, Some(vec![pair("t", "lead vocal")]));
    assert_eq!(found(&rules, "where did it go"), None, "no track");
    assert_eq!(rules.classify("p", "bass"), None, "where the slots are says nothing about what is meant");
}

#[test]
fn what_cannot_be_learned_is_told_at_load() {
    let fault = |text: &str| parse(text).unwrap_err().to_string();
    let rule = |more: &str| format!("[[rule]]\nname = 'r'\nanswer = 'x'\n{more}\n");
    assert!(fault(&rule("learn = true")).contains("has none"));
    assert!(fault(&rule("match = 'x'\nfind = '{n:number}'")).contains("patterns have slots of their own"));
    assert!(fault(&rule("examples = ['a']\nfind = '{x:text}'")).contains("would catch anything"));
    assert!(fault(&(format!("precision = 1.0\n{}", rule("match = 'x'")))).contains("below 1"));
    assert!(fault(&rule("examples = ['a']\nset = { y = '{x}' }")).contains("is no slot of it"));
    assert!(rules(&rule("match = 'x'\nexamples = ['x']")).lessons().is_none());
    assert!(rules(&rule("match = 'x'\nlearn = true\nexamples = ['x']")).lessons().is_some());
}

#[test]
fn the_examples_of_a_learned_rule_are_held_to_its_slots_and_to_other_rules() {
    let report = rules(
        "[[rule]]\nname = 'ping'\nmatch = 'ping [it]'\nanswer = 'x'\nexamples = ['ping']\n[[rule]]\nname = 'r'\nfind = '{n:number}'\nanswer = '{n}'\nexamples = ['ping it', 'take 3', 'take none', { text = 'take 4', slots = { n = '5' } }]\n",
    )
    .check(None);
    let told: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "r: it is learned from 4 examples; five are few, ten are better",
            "r: its example \"ping it\" is answered by ping",
            "r: its example \"take none\" gives nothing that it needs",
            "r: its example \"take 4\" gives {\"n\": \"4\"}",
        ]
    );
}

fn shipped() -> &'static RuleSet {
    static RULES: std::sync::OnceLock<RuleSet> = std::sync::OnceLock::new();
    RULES.get_or_init(|| Book::shipped().unwrap().compile(&[]).unwrap())
}

fn measured(file: &str) -> (usize, usize, usize, usize, Vec<String>) {
    let rules = shipped();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/commands");
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let (mut commands, mut right, mut others, mut taken, mut wrong) = (0, 0, 0, 0, Vec::new());
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let (said, intent) = (line["text"].as_str().unwrap(), line["intent"].as_str().unwrap());
        let verdict = rules.classify("music", said);
        if intent == "none" {
            others += 1;
            taken += usize::from(verdict.is_some());
            continue;
        }
        commands += 1;
        let got: BTreeMap<String, String> = verdict
            .iter()
            .flat_map(|verdict| &verdict.slots)
            .map(|(k, v)| (k.clone(), v.to_lowercase()))
            .collect();
        let wanted: BTreeMap<String, String> = line["slots"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(k, v)| (k.clone(), v.as_str().unwrap().to_lowercase()))
            .collect();
        match verdict.is_some_and(|verdict| verdict.intent == intent) && got == wanted {
            true => right += 1,
            false => wrong.push(format!("{said}: {got:?}")),
        }
    }
    (commands, right, others, taken, wrong)
}

#[test]
fn the_shipped_rules_understand_commands_and_leave_questions_alone() {
    let (commands, right, others, taken, wrong) = measured("commands.jsonl");
    assert!(right as f64 >= commands as f64 * 0.98, "{right} of {commands}: {wrong:#?}");
    assert!(taken as f64 <= others as f64 * 0.003, "{taken} of {others}");
}

#[test]
fn the_shipped_rules_understand_other_words_for_the_same() {
    let (commands, right, _, _, wrong) = measured("other_words.jsonl");
    assert!(right as f64 >= commands as f64 * 0.98, "{right} of {commands}: {wrong:#?}");
}

/// Words that no pattern of these tests has, and names of several words.
fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Z][a-z]{2,8}( [A-Z][a-z]{2,8}){0,2}",
        "[a-z]{3,8} [0-9]{1,2}",
        "\"[A-Za-z,;.!? ]{1,6}[a-z]\""
    ]
}

proptest! {
    #[test]
    fn every_value_that_is_put_into_a_template_comes_back_out(
        name in any_name(), number in -999i64..999, cents in 0u8..100, noisy in any::<bool>(),
    ) {
        let rules = matching("rename {n:number} with {x:text} untranslatable");
        let amount = format!("{number}.{cents:02}");
        let text = format!("rename {amount} with {name} untranslatable");
        let text = if noisy { format!("hey, could you {text}, thanks!") } else { text };
        let slots = rules.classify("p", &text).unwrap().slots;
        let expected = exact::Exact::parse(&amount).unwrap().to_string();
        prop_assert_eq!(value(&slots, "n"), Some(expected.as_str()));
        prop_assert_eq!(value(&slots, "x"), Some(name.trim_matches('"').trim()));
    }

    #[test]
    fn every_value_that_is_said_somewhere_is_found(number in -999i64..999, first in any::<bool>(), words in "(ah|well|so|hm){0,1}( ah| well| hm){0,4}") {
        let rules = finding("{t:track} & {db:number} dB?");
        let said = if first { format!("{words} {number} db {words} bass {words}") } else { format!("{words} bass {words} {number} db {words}") };
        let slots = found(&rules, &said).unwrap();
        prop_assert_eq!(slots, vec![("t".to_owned(), "bass".to_owned()), ("db".to_owned(), number.to_string())]);
    }

    #[test]
    fn every_name_of_a_vocabulary_comes_back_out(names in prop::collection::btree_set("[a-z]{3,8}( [a-z]{3,8})?", 1..8)) {
        let lines: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        let rules = rules(&format!(
            "[[vocabulary]]\nname = 'thing'\nvalues = [{}]\n[[rule]]\nname = 'r'\nmatch = 'xyzzy {{t:thing}} plugh'\nanswer = '{{t}}'\n",
            lines.join(", ")
        ));
        for name in names.iter().filter(|name| !name.split(' ').any(|word| said::words(word) != [word])) {
            let slots = slots_of(&rules, &format!("xyzzy {name} plugh")).unwrap();
            prop_assert_eq!(&slots["t"], name);
        }
    }

    #[test]
    fn no_text_and_no_pattern_breaks_anything(text in "\\PC{0,60}", pattern in "[a-c{}()|?<>: \\[\\]x]{0,24}") {
        let _ = shipped().classify("music", &text);
        let _ = parse(&format!("[[rule]]\nname = 'r'\nmatch = '''{pattern}'''\nanswer = 'x'\n")).map(|rules| {
            let _ = rules.classify("p", &text);
            rules.check(None)
        });
    }

    #[test]
    fn the_quick_way_finds_what_trying_everything_finds(pattern in any_pattern(3), text in "(a|b|c|one|2|x y)( (a|b|c|one|2|aabbcc|aabcbc)){0,5}") {
        let mut words = Words::default();
        let mut list = List::new("l", 2);
        list.add("b c = a a", &mut words).unwrap();
        let languages = [Language::En];
        kinds::learn(&mut words, &languages);
        words.learn("aabbcc");
        let mut slots = Vec::new();
        let mut parser = Parser { words: &mut words, slots: &mut slots, list: &|name| (name == "l").then_some(0), phrase: &|_| None };
        let Ok(node) = pattern::parse(&pattern, &mut parser) else { return Ok(()) };
        let program = Program::new(&node);
        let heard = Heard::new(&text, &words, &languages).unwrap();
        let lists = [list];
        for ease in EASES {
            let ground = Ground { heard: &heard, lists: &lists, ease, fits: &|_: &Catch| true };
            for from in 0..heard.len() {
                let may_end = |to: usize| to == heard.len();
                prop_assert_eq!(program.run(ground, from, &may_end), program.run_slowly(ground, from, &may_end));
            }
        }
        // Whatever it needs is there where it matches.
        let needs = node.needs(&|_| None);
        let ground = Ground { heard: &heard, lists: &lists, ease: EASES[0], fits: &|_: &Catch| true };
        if let Some(found) = program.run(ground, 0, &|_| true) {
            let said = &heard.ids[found.from..found.to];
            prop_assert!(needs.iter().all(|need| need.iter().any(|word| said.contains(&Some(*word)))));
            if let Some(most) = node.most_words(&|_| 2) {
                prop_assert!(found.to - found.from <= most);
            }
        }
    }
}

fn any_pattern(depth: u32) -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("c".to_owned()),
        Just("aabbcc".to_owned()),
        Just("{n:number}".to_owned()),
        Just("{t:text}".to_owned()),
        Just("{l:l}".to_owned()),
        Just("{w:word}".to_owned()),
    ];
    leaf.prop_recursive(depth, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|all| all.join(" ")),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|any| format!("({})", any.join("|"))),
            inner.prop_map(|maybe| format!("[{maybe}]")),
        ]
    })
}
