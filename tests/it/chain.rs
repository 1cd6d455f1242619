//! The chain: what becomes of a request when those who are asked fail. Each case that users of other programs have
//! reported has a test under the number it was reported under.

use crate::kit::{question, streamed};
use futures_util::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use weir::sim::{Scripted, Step};
use weir::upstream::chain::{Chain, Config, Link, Rotation, Triggers, Ward};
use weir::upstream::health::{BreakerRules, BudgetRules, Ladder, Preset, Rules};
use weir::upstream::{Call, Error, Kind, Opened, Priority, Upstream};

const SECOND: Duration = Duration::from_secs(1);

fn scripted(name: &str, steps: impl IntoIterator<Item = Step>) -> Arc<Scripted> {
    Arc::new(Scripted::new(name, steps))
}

fn well(name: &str) -> Arc<Scripted> {
    scripted(name, [Step::say(name)])
}

fn failing(name: &str, kind: Kind) -> Arc<Scripted> {
    scripted(name, [Step::Fail(kind)])
}

fn link(upstream: &Arc<Scripted>) -> Link {
    Link::new(Arc::clone(upstream) as Arc<dyn Upstream>, vec!["*".into()])
}

fn chain(upstreams: &[&Arc<Scripted>]) -> Chain {
    with(Config::default(), upstreams)
}

fn with(config: Config, upstreams: &[&Arc<Scripted>]) -> Chain {
    let ward = Arc::new(Ward::new(Rules::default(), BudgetRules::default()));
    Chain::sharing("chain", upstreams.iter().map(|upstream| link(upstream)).collect(), config, &ward)
}

fn call(seconds: u64) -> Call {
    Call { priority: Priority::User, ..Call::within(Duration::from_secs(seconds)) }
}

async fn ask(chain: &Chain) -> Result<Opened, Error> {
    chain.open(&question("q"), &call(600)).await
}

async fn ask_for(chain: &Chain, model: &str) -> Result<Opened, Error> {
    let request = weir::chat::Request { model: model.into(), ..question("q") };
    chain.open(&request, &call(600)).await
}

/// Who answers, where somebody does.
async fn who(chain: &Chain) -> String {
    ask(chain).await.unwrap().by.to_string()
}

fn calls<const N: usize>(upstreams: [&Arc<Scripted>; N]) -> [usize; N] {
    upstreams.map(|upstream| upstream.calls())
}

#[tokio::test(start_paused = true)]
async fn openclaw_10375_a_limited_model_blocks_neither_other_models_nor_fallbacks() {
    let primary = scripted("a", [Step::Fail(Kind::RateLimit), Step::say("a")]);
    let spare = well("b");
    let chain = chain(&[&primary, &spare]);
    assert_eq!(&*ask_for(&chain, "m").await.unwrap().by, "b");
    assert_eq!(&*ask_for(&chain, "other").await.unwrap().by, "a", "the same key, another model");
    assert_eq!(&*ask_for(&chain, "m").await.unwrap().by, "b");
}

#[tokio::test(start_paused = true)]
async fn openclaw_11972_fallbacks_are_tried_while_the_primary_cools_down() {
    let (primary, spare) = (failing("a", Kind::RateLimit), well("b"));
    let chain = chain(&[&primary, &spare]);
    for _ in 0..3 {
        let opened = ask(&chain).await.unwrap();
        assert_eq!(&*opened.by, "b");
        assert_eq!(opened.failed.len(), 1, "and it is told who was passed over");
        assert_eq!(opened.failed[0].kind, Kind::RateLimit);
    }
    assert_eq!(calls([&primary, &spare]), [1, 3]);
}

#[tokio::test(start_paused = true)]
async fn openclaw_59303_a_limit_is_no_reason_to_ask_the_same_one_again() {
    let (primary, spare) = (failing("a", Kind::RateLimit), well("b"));
    let began = Instant::now();
    assert_eq!(who(&chain(&[&primary, &spare])).await, "b");
    assert_eq!((calls([&primary]), began.elapsed()), ([1], Duration::ZERO), "at once");
}

#[tokio::test(start_paused = true)]
async fn openclaw_147037_a_reset_in_days_is_waited_for_by_nobody() {
    let days = Duration::from_secs(502_923);
    let most = Duration::from_secs(502_922);
    let primary = scripted("a", [Step::FailFor(Kind::RateLimit, days), Step::say("a")]);
    let spare = well("b");
    let chain = chain(&[&primary, &spare]);
    assert_eq!(who(&chain).await, "b");
    tokio::time::advance(most).await;
    assert_eq!(who(&chain).await, "b");
    tokio::time::advance(SECOND).await;
    assert_eq!(who(&chain).await, "a", "and then it is asked again");
}

#[tokio::test(start_paused = true)]
async fn openclaw_83651_a_wish_to_be_left_alone_for_a_minute_stalls_nobody() {
    let primary = scripted("a", [Step::FailFor(Kind::RateLimit, 60 * SECOND)]);
    let began = Instant::now();
    assert_eq!(who(&chain(&[&primary, &well("b")])).await, "b");
    assert!(began.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn openclaw_85103_a_silent_one_is_given_up_and_left_alone() {
    let (primary, spare) = (scripted("a", [Step::Stall]), well("b"));
    let chain = chain(&[&primary, &spare]);
    let began = Instant::now();
    let opened = chain.open(&streamed("q"), &call(60)).await.unwrap();
    assert_eq!((&*opened.by, opened.failed[0].kind), ("b", Kind::Timeout));
    assert_eq!(began.elapsed(), 30 * SECOND, "half of the time is left for the others");
    let began = Instant::now();
    assert_eq!(who(&chain).await, "b");
    assert_eq!((began.elapsed(), calls([&primary])), (Duration::ZERO, [1]));
}

#[tokio::test(start_paused = true)]
async fn openclaw_84457_an_answer_that_had_begun_before_erases_no_cooldown() {
    let slow = Step::SlowlySay("a".into(), 5 * SECOND);
    let (primary, spare) = (scripted("a", [slow, Step::Fail(Kind::RateLimit)]), well("b"));
    let chain = Arc::new(chain(&[&primary, &spare]));
    let early = tokio::spawn({
        let chain = Arc::clone(&chain);
        async move { who(&chain).await }
    });
    tokio::time::sleep(SECOND).await;
    assert_eq!(who(&chain).await, "b", "it is limited now");
    assert_eq!(early.await.unwrap(), "a");
    assert_eq!(who(&chain).await, "b", "and still is");
    assert_eq!(calls([&primary]), [2]);
}

#[tokio::test(start_paused = true)]
async fn openclaw_57283_nobody_is_held_up_by_the_one_who_waits() {
    let (primary, spare) = (scripted("a", [Step::Stall]), well("b"));
    let chain = Arc::new(chain(&[&primary, &spare]));
    let hanging: Vec<_> = (0..5)
        .map(|_| {
            let chain = Arc::clone(&chain);
            tokio::spawn(async move { chain.open(&streamed("q"), &call(60)).await })
        })
        .collect();
    tokio::time::sleep(31 * SECOND).await;
    for hanging in hanging {
        assert!(hanging.is_finished());
        assert_eq!(&*hanging.await.unwrap().unwrap().by, "b");
    }
}

#[tokio::test(start_paused = true)]
async fn openclaw_87462_all_cooling_is_no_failure_while_there_is_time() {
    let steps = || [Step::FailFor(Kind::RateLimit, 10 * SECOND), Step::say("ok")];
    let (a, b) = (scripted("a", steps()), scripted("b", steps()));
    let chain = chain(&[&a, &b]);
    let began = Instant::now();
    assert_eq!(who(&chain).await, "a");
    assert_eq!(began.elapsed(), 10 * SECOND, "as soon as the first may be asked");
}

#[tokio::test(start_paused = true)]
async fn openclaw_65041_a_failure_never_leads_to_one_that_is_switched_off() {
    let (a, b, c) = (failing("a", Kind::Billing), well("b"), well("c"));
    let chain = chain(&[&a, &b, &c]);
    assert!(chain.ward().set_disabled("b", true));
    assert_eq!(who(&chain).await, "c");
    assert_eq!(calls([&b]), [0]);
    assert!(chain.ward().set_disabled("b", false) && !chain.ward().set_disabled("nobody", true));
    assert_eq!(who(&chain).await, "b");
}

#[tokio::test(start_paused = true)]
async fn litellm_3646_when_all_cool_the_first_to_return_is_waited_for() {
    let a = scripted("a", [Step::FailFor(Kind::RateLimit, 25 * SECOND), Step::say("a")]);
    let b = scripted("b", [Step::FailFor(Kind::RateLimit, 7 * SECOND), Step::say("b")]);
    let chain = chain(&[&a, &b]);
    let began = Instant::now();
    assert_eq!(who(&chain).await, "b");
    assert_eq!(began.elapsed(), 7 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn litellm_27823_when_there_is_no_time_the_exact_wait_is_told() {
    let a = scripted("a", [Step::FailFor(Kind::RateLimit, 90 * SECOND)]);
    let b = scripted("b", [Step::FailFor(Kind::RateLimit, 70 * SECOND)]);
    let chain = chain(&[&a, &b]);
    assert_eq!(ask(&chain).await.unwrap_err().retry_after, Some(70 * SECOND));
    tokio::time::advance(20 * SECOND).await;
    let error = ask(&chain).await.unwrap_err();
    assert_eq!((error.kind, error.retry_after), (Kind::Exhausted, Some(50 * SECOND)));
    assert!(error.attempts.iter().all(|attempt| attempt.kind == Kind::RateLimit && !attempt.asked));
    assert_eq!(calls([&a, &b]), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn litellm_40130_a_second_failure_never_shortens_the_first_one_s_deadline() {
    let steps = [
        Step::SlowlySay("late".into(), SECOND),
        Step::FailFor(Kind::RateLimit, 300 * SECOND),
        Step::FailFor(Kind::RateLimit, 3 * SECOND),
    ];
    let (a, b) = (scripted("a", steps), well("b"));
    let chain = chain(&[&a, &b]);
    let (_, first, second) = tokio::join!(ask(&chain), ask(&chain), ask(&chain));
    assert!(first.is_ok() && second.is_ok());
    tokio::time::advance(200 * SECOND).await;
    assert_eq!(who(&chain).await, "b");
}

#[tokio::test(start_paused = true)]
async fn litellm_34836_a_cooldown_holds_from_the_very_next_request_on() {
    let (a, b) = (failing("a", Kind::Server), well("b"));
    let chain = chain(&[&a, &b]);
    for _ in 0..25 {
        assert_eq!(who(&chain).await, "b");
    }
    assert_eq!(calls([&a]), [1]);
}

#[tokio::test(start_paused = true)]
async fn litellm_7669_a_wish_to_be_left_alone_is_heeded_whatever_the_order() {
    let wish = Step::FailFor(Kind::RateLimit, 20 * SECOND);
    let (a, b) = (scripted("a", [wish, Step::say("a")]), well("b"));
    let profiles =
        |upstream: &Arc<Scripted>| (upstream.name().to_owned(), Arc::clone(upstream) as Arc<dyn Upstream>);
    let keys = link(&a).with_profiles(vec![profiles(&a), profiles(&b)], Rotation::RoundRobin);
    let chain = Chain::new("chain", vec![keys]);
    for _ in 0..10 {
        ask(&chain).await.unwrap();
    }
    assert_eq!(calls([&a, &b]), [1, 10]);
}

#[tokio::test(start_paused = true)]
async fn litellm_6957_before_the_first_word_of_a_stream_another_one_is_asked() {
    let (a, b) = (failing("a", Kind::BadResponse), well("b"));
    let opened = chain(&[&a, &b]).open(&streamed("q"), &call(60)).await.unwrap();
    assert_eq!(&*opened.by, "b");
}

#[tokio::test(start_paused = true)]
async fn litellm_32835_after_the_first_word_nothing_is_said_twice() {
    let (a, b) = (scripted("a", [Step::SayThenCut("hel".into())]), well("b"));
    let mut opened = chain(&[&a, &b]).open(&streamed("q"), &call(60)).await.unwrap();
    assert!(opened.chunks.next().await.unwrap().is_ok());
    assert_eq!(opened.chunks.next().await.unwrap().unwrap_err().kind, Kind::Cut);
    assert!(opened.chunks.next().await.is_none());
    assert_eq!(calls([&a, &b]), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn orcarouter_115_who_cuts_its_answers_is_left_alone() {
    let (a, b) = (scripted("a", [Step::SayThenCut("hel".into())]), well("b"));
    let chain = chain(&[&a, &b]);
    for _ in 0..20 {
        let mut opened = ask(&chain).await.unwrap();
        while opened.chunks.next().await.is_some() {}
    }
    assert!(calls([&a])[0] <= 6, "{:?}", calls([&a, &b]));
}

#[tokio::test(start_paused = true)]
async fn bifrost_6966_a_fallback_is_another_one() {
    let (a, b) = (failing("a", Kind::Server), failing("b", Kind::Server));
    let config = Config { max_wait: Duration::ZERO, max_attempts: 1, ..Config::default() };
    let error = ask(&with(config, &[&a, &b])).await.unwrap_err();
    let asked: Vec<&str> = error.attempts.iter().map(|attempt| &*attempt.upstream).collect();
    assert_eq!(asked, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn agentgateway_1500_a_limit_without_a_time_fails_over_all_the_same() {
    let (a, b) = (failing("a", Kind::RateLimit), well("b"));
    let chain = chain(&[&a, &b]);
    assert_eq!(who(&chain).await, "b");
    tokio::time::advance(29 * SECOND).await;
    assert_eq!(who(&chain).await, "b");
    assert_eq!(calls([&a]), [1], "half a minute, where nothing is said");
}

#[tokio::test(start_paused = true)]
async fn subwave_438_a_weekly_quota_is_not_tried_again_and_again() {
    let week = Duration::from_hours(7 * 24);
    let a = scripted("a", [Step::FailFor(Kind::RateLimit, week)]);
    let chain = chain(&[&a]);
    for _ in 0..50 {
        assert!(ask(&chain).await.unwrap_err().retry_after > Some(week / 2));
        tokio::time::advance(Duration::from_mins(10)).await;
    }
    assert_eq!(calls([&a]), [1]);
}

#[tokio::test(start_paused = true)]
async fn llm_gateway_1119_an_exhausted_chain_does_not_begin_anew() {
    let (a, b) = (failing("a", Kind::Server), failing("b", Kind::Connection));
    let chain = chain(&[&a, &b]);
    let began = Instant::now();
    let error = ask(&chain).await.unwrap_err();
    assert_eq!(error.kind, Kind::Exhausted);
    assert!(began.elapsed() <= 32 * SECOND, "{:?}", began.elapsed());
    let [first, second] = calls([&a, &b]);
    assert!(first + second <= 8, "{first} + {second} calls for one request");
}

#[tokio::test(start_paused = true)]
async fn openclaw_22136_with_one_cooling_it_is_not_all_that_failed() {
    let (a, b) = (failing("a", Kind::RateLimit), failing("b", Kind::Server));
    let chain = with(Config { max_wait: Duration::ZERO, max_attempts: 1, ..Config::default() }, &[&a, &b]);
    ask(&chain).await.unwrap_err();
    chain.ward().reset(Some("b"));
    let error = ask(&chain).await.unwrap_err();
    let told: Vec<_> = error.attempts.iter().map(|error| (&*error.upstream, error.asked)).collect();
    assert_eq!((told, calls([&a, &b])), (vec![("a", false), ("b", true)], [1, 2]));
}

#[tokio::test(start_paused = true)]
async fn openclaw_56908_a_chain_may_be_a_link_of_another() {
    let (a, b, c) = (failing("a", Kind::Server), failing("b", Kind::Auth), well("c"));
    let inner: Arc<dyn Upstream> = Arc::new(chain(&[&a, &b]));
    let outer = Chain::new("outer", vec![Link::nested(inner, vec!["*".into()]), link(&c)]);
    let opened = ask(&outer).await.unwrap();
    assert_eq!((&*opened.by, b.calls(), c.calls()), ("c", 1, 1));
}

#[tokio::test(start_paused = true)]
async fn bifrost_6967_one_who_breaks_down_takes_nobody_along() {
    let broken = Chain::new("chain", vec![Link::new(Arc::new(Broken), vec!["*".into()])]);
    let chain = Arc::new(broken);
    let asked = tokio::spawn({
        let chain = Arc::clone(&chain);
        async move { ask(&chain).await.is_ok() }
    });
    assert!(asked.await.unwrap_err().is_panic());
    let report = &chain.ward().reports()[0];
    assert_eq!((report.in_flight, report.health.state), (0, "ready"), "what is known of it is whole");
}

/// A bug.
struct Broken;

#[async_trait::async_trait]
impl Upstream for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn origin(&self, _: &weir::chat::Request) -> weir::upstream::Origin {
        weir::upstream::Origin::Provider
    }

    async fn open(&self, _: &weir::chat::Request, _: &Call) -> Result<Opened, Error> {
        panic!("a bug")
    }
}

#[tokio::test(start_paused = true)]
async fn bifrost_6972_an_answer_that_was_left_is_counted_once() {
    let a = scripted("a", [Step::SayThenStall("hel".into())]);
    let chain = chain(&[&a]);
    let mut opened = chain.open(&streamed("q"), &call(60)).await.unwrap();
    assert!(opened.chunks.next().await.unwrap().is_ok());
    assert!(chain.ward().reports()[0].spent.is_empty(), "it is not over");
    drop(opened);
    let report = &chain.ward().reports()[0];
    assert_eq!((report.spent["m"].answers, report.in_flight), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn portkey_1667_trouble_is_not_answered_with_a_storm() {
    let a = failing("a", Kind::Server);
    let chain = Arc::new(chain(&[&a]));
    let asked = (0..200).map(|_| {
        let chain = Arc::clone(&chain);
        async move { chain.open(&question("q"), &call(20)).await }
    });
    let answered = futures_util::future::join_all(asked).await;
    assert!(answered.iter().all(Result::is_err));
    // Those that were under way together, a tenth of them again, what was saved up, and a look now and then.
    assert!(calls([&a])[0] <= 200 + 20 + 20 + 10, "{}", calls([&a])[0]);
}

#[tokio::test(start_paused = true)]
async fn second_tries_are_a_share_of_the_first_ones() {
    // Every other call fails.
    let steps = [Step::Fail(Kind::Server), Step::say("a")];
    let a = scripted("a", steps.into_iter().cycle().take(1000));
    // Nothing else stops them: no breaker, and hardly a moment of being left alone.
    let breaker = BreakerRules { share: 2.0, ..BreakerRules::default() };
    let transient = Ladder::of([Duration::from_millis(1)]);
    let ward = Ward::new(Rules { breaker, transient, ..Rules::default() }, BudgetRules::default());
    let config = Config { max_wait: Duration::ZERO, max_attempts: 5, ..Config::default() };
    let chain = Chain::sharing("chain", vec![link(&a)], config, &Arc::new(ward));
    let began = Instant::now();
    for _ in 0..200 {
        let _ = ask(&chain).await;
        tokio::time::advance(Duration::from_millis(2)).await;
    }
    // Each of the two hundred, a tenth again, twenty that were saved up, and ten for each minute that it took.
    let most = 200 + 20 + 20 + began.elapsed().as_secs() / 6;
    assert!((220..=most).contains(&(a.calls() as u64)), "{} of {most}", a.calls());
}

#[tokio::test(start_paused = true)]
async fn who_is_down_is_told_of_soon_and_in_its_own_words() {
    let a = failing("a", Kind::Connection);
    let began = Instant::now();
    let error = ask(&chain(&[&a])).await.unwrap_err();
    assert_eq!((error.kind, error.attempts.len(), calls([&a])), (Kind::Connection, 1, [2]));
    assert!(began.elapsed() <= SECOND && error.retry_after > Some(20 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn one_request_causes_only_so_many_calls() {
    let a = scripted("a", [Step::FailFor(Kind::RateLimit, 3 * SECOND)]);
    let config = Config { max_wait: 500 * SECOND, max_calls: 3, ..Config::default() };
    assert!(ask(&with(config, &[&a])).await.is_err());
    assert_eq!(calls([&a]), [3]);
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_with_nobody_behind_is_asked_again_after_a_moment() {
    let a = scripted("a", [Step::Fail(Kind::Server), Step::say("a")]);
    let local = Arc::new(Scripted::local([Step::say("me")]));
    let began = Instant::now();
    assert_eq!(who(&chain(&[&a, &local])).await, "a", "before a stand-in answers");
    assert!(began.elapsed() <= SECOND);
    let auth = scripted("a", [Step::Fail(Kind::Auth), Step::say("a")]);
    assert_eq!(who(&chain(&[&auth, &local])).await, "local", "a wrong key stays wrong");
}

#[tokio::test(start_paused = true)]
async fn a_short_wait_is_waited_for_before_a_stand_in_answers_and_a_long_one_is_not() {
    let local = Arc::new(Scripted::local([Step::say("me")]));
    for (wait, by) in [(1500, "a"), (2500, "local")] {
        let wish = Step::FailFor(Kind::RateLimit, Duration::from_millis(wait));
        let a = scripted("a", [wish, Step::say("a")]);
        let began = Instant::now();
        assert_eq!(who(&chain(&[&a, &local])).await, by);
        assert_eq!(began.elapsed().as_millis(), if by == "a" { u128::from(wait) } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_stand_in_is_put_off_once_for_one_who_may_be_well_again() {
    let (a, local) = (failing("a", Kind::BadResponse), Arc::new(Scripted::local([Step::say("me")])));
    let chain = chain(&[&a, &local]);
    who(&chain).await;
    let mut took = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(who(&chain).await, "local");
        took.push(began.elapsed().as_secs());
    }
    // The first look is due after one second, the next one after two, and four are no moment.
    assert_eq!((took, calls([&a])), (vec![1, 2, 0], [4]));
    let refused = failing("a", Kind::Auth);
    let chain = self::chain(&[&refused, &local]);
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(who(&chain).await, "local");
        assert_eq!(began.elapsed(), Duration::ZERO, "a refused key is not waited for");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_stand_in_the_next_look_at_a_refused_key_is_waited_for_where_it_is_a_moment() {
    let a = scripted("a", [Step::Fail(Kind::Auth), Step::say("a")]);
    let chain = chain(&[&a]);
    assert_eq!(ask(&chain).await.unwrap_err().kind, Kind::Auth, "it is told of at once");
    let began = Instant::now();
    assert_eq!(who(&chain).await, "a");
    assert_eq!(began.elapsed(), SECOND);
    let refused = failing("a", Kind::Auth);
    let chain = self::chain(&[&refused]);
    let mut took = Vec::new();
    for _ in 0..4 {
        let began = Instant::now();
        assert_eq!(ask(&chain).await.unwrap_err().kind, Kind::Auth);
        took.push(began.elapsed().as_secs());
    }
    assert_eq!((took, calls([&refused])), (vec![0, 1, 2, 0], [3]), "and each asks once");
}

#[tokio::test(start_paused = true)]
async fn who_wants_a_moment_again_and_again_is_not_waited_for_again_and_again() {
    let a = scripted("a", [Step::FailFor(Kind::RateLimit, SECOND)]);
    let local = Arc::new(Scripted::local([Step::say("me")]));
    let began = Instant::now();
    assert_eq!(who(&chain(&[&a, &local])).await, "local");
    assert_eq!((calls([&a]), began.elapsed()), ([2], SECOND));
}

#[tokio::test(start_paused = true)]
async fn what_the_chain_does_not_go_on_after_is_the_client_s() {
    let triggers = Triggers { auth: false, ..Triggers::default() };
    let (a, b) = (failing("a", Kind::Auth), well("b"));
    let chain = with(Config { triggers, ..Config::default() }, &[&a, &b]);
    for _ in 0..2 {
        assert_eq!(ask(&chain).await.unwrap_err().kind, Kind::Auth);
    }
    assert_eq!(calls([&a, &b]), [2, 0], "and nobody is left alone for it");
}

#[tokio::test(start_paused = true)]
async fn clients_that_leave_after_a_long_silence_tell_of_it() {
    let a = scripted("a", [Step::Stall]);
    let chain = chain(&[&a]);
    let mut patient: Vec<_> = Vec::new();
    for _ in 0..20 {
        let request = streamed("q");
        let chain = &chain;
        patient.push(async move {
            let _ = tokio::time::timeout(25 * SECOND, chain.open(&request, &call(600))).await;
        });
    }
    futures_util::future::join_all(patient).await;
    let report = &chain.ward().reports()[0].health.models[0];
    assert_eq!((report.state, report.reason), ("cooling", Some("timeout")));
}

#[tokio::test(start_paused = true)]
async fn who_has_no_words_for_a_request_is_not_asked_again() {
    let a = scripted("a", [Step::Fail(Kind::Unsupported), Step::say("a")]);
    let local = Arc::new(Scripted::local([Step::say("me")]));
    let chain = chain(&[&a, &local]);
    assert_eq!((who(&chain).await.as_str(), who(&chain).await.as_str()), ("local", "a"));
}

#[tokio::test(start_paused = true)]
async fn a_request_in_the_background_waits_for_nobody() {
    let a = scripted("a", [Step::FailFor(Kind::RateLimit, SECOND), Step::say("a")]);
    let began = Instant::now();
    let background = Call { priority: Priority::Background, ..call(600) };
    let error = chain(&[&a]).open(&question("q"), &background).await.unwrap_err();
    assert_eq!((error.kind, began.elapsed()), (Kind::RateLimit, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_is_too_long_goes_to_a_larger_window_and_to_no_other() {
    let long = |name| failing(name, Kind::ContextOverflow);
    let (a, same, unknown, large) = (long("a"), well("same"), well("unknown"), well("large"));
    let window = |upstream: &Arc<Scripted>, tokens| link(upstream).with_windows(vec![("*".into(), tokens)]);
    let links = vec![window(&a, 8000), window(&same, 8000), link(&unknown), window(&large, 200_000)];
    let opened = ask(&Chain::new("chain", links)).await.unwrap();
    assert_eq!((&*opened.by, opened.failed.len()), ("large", 1));
    assert_eq!(calls([&same, &unknown]), [0, 0]);
    let links = vec![window(&a, 8000), window(&same, 8000)];
    assert_eq!(ask(&Chain::new("chain", links)).await.unwrap_err().kind, Kind::ContextOverflow);
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_one_upstream_are_tried_before_the_next_one() {
    let keys: Vec<_> = ["one", "two"].map(|_| scripted("p", [Step::Fail(Kind::Auth), Step::say("p")])).into();
    let profiles = ["one", "two"].iter().zip(&keys);
    let profiles = profiles.map(|(name, key)| ((*name).to_owned(), Arc::clone(key) as Arc<dyn Upstream>));
    let next = well("next");
    let provider = link(&keys[0]).with_profiles(profiles.collect(), Rotation::Order);
    let chain = Chain::new("chain", vec![provider, link(&next)]);
    let opened = ask(&chain).await.unwrap();
    assert_eq!(&*opened.by, "next");
    let failed: Vec<&str> = opened.failed.iter().map(|error| &*error.upstream).collect();
    assert_eq!(failed, ["p:one", "p:two"]);
    let names: Vec<String> =
        chain.ward().reports().iter().map(|report| report.health.name.to_string()).collect();
    assert_eq!(names, ["p:one", "p:two", "next"]);
    tokio::time::advance(31 * SECOND).await;
    assert!(chain.ward().set_disabled("p", true), "all keys of it");
    assert_eq!(who(&chain).await, "next");
    chain.ward().set_disabled("p", false);
    assert_eq!(who(&chain).await, "p");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_well_again_is_found_out_by_one_and_asked_by_all() {
    let a = scripted("a", [Step::Fail(Kind::Timeout), Step::SlowlySay("a".into(), SECOND), Step::say("a")]);
    let chain = chain(&[&a, &well("b")]);
    assert_eq!(who(&chain).await, "b");
    tokio::time::advance(30 * SECOND).await;
    let (first, second) = tokio::join!(who(&chain), who(&chain));
    assert_eq!((first.as_str(), second.as_str()), ("a", "b"), "one finds out");
    assert_eq!(who(&chain).await, "a");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_slow_comes_second_and_is_looked_at_now_and_then() {
    let quick = Step::SlowlySay("a".into(), Duration::from_millis(300));
    let slow = Step::SlowlySay("a".into(), 9 * SECOND);
    let steps = std::iter::repeat_n(quick.clone(), 20).chain(std::iter::repeat_n(slow, 4));
    let (a, b) = (scripted("a", steps.chain([quick])), well("b"));
    let chain = chain(&[&a, &b]);
    let mut answered = Vec::new();
    for _ in 0..40 {
        answered.push(who(&chain).await);
        tokio::time::advance(SECOND).await;
    }
    let second = answered.iter().filter(|by| *by == "b").count();
    assert!(second > 3, "{answered:?}");
    for _ in 0..60 {
        who(&chain).await;
        tokio::time::advance(SECOND).await;
    }
    assert_eq!(who(&chain).await, "a", "it is quick again");
}

#[tokio::test(start_paused = true)]
async fn what_is_known_outlives_a_restart() {
    let (a, b) = (scripted("a", [Step::FailFor(Kind::RateLimit, 300 * SECOND), Step::say("a")]), well("b"));
    let before = chain(&[&a, &b]);
    assert_eq!(who(&before).await, "b");
    let wall = weir::clock::Millis(1_800_000_000_000);
    let text = serde_json::to_string(&before.ward().snapshot(wall)).unwrap();
    let after = chain(&[&a, &b]);
    after.ward().restore(serde_json::from_str(&text).unwrap(), wall.plus(200 * SECOND));
    assert_eq!(who(&after).await, "b");
    tokio::time::advance(100 * SECOND).await;
    assert_eq!(who(&after).await, "a");
}

#[tokio::test(start_paused = true)]
async fn the_presets_hold_from_one_end_to_the_other() {
    for (name, preset) in Preset::ALL {
        let (a, b) = (failing("a", Kind::Timeout), well("b"));
        let ward = Arc::new(Ward::new(preset.rules(), BudgetRules::default()));
        let chain = Chain::sharing("chain", vec![link(&a), link(&b)], Config::default(), &ward);
        let mut asked = Vec::new();
        for second in 0..2000 {
            let before = a.calls();
            who(&chain).await;
            if a.calls() > before {
                asked.push(second);
            }
            tokio::time::advance(SECOND).await;
        }
        let expected: &[i32] = match preset {
            Preset::Classic => &[0, 60, 360, 1860],
            Preset::V2026_9 => &[0, 30, 90, 390, 690, 990, 1290, 1590, 1890],
        };
        assert_eq!(asked, expected, "{name}");
    }
}

/// Nanoseconds that this thread has run for.
fn ran_for() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    schedstat.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

/// In microseconds, of many calls: what this thread ran for each, and how long half and 99 of 100 of them took; each the
/// best of a few rounds.
async fn cost_of(upstream: &dyn Upstream) -> [f64; 3] {
    const CALLS: usize = 20_000;
    let (request, call) = (question("q"), call(600));
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let mut best = [f64::MAX; 3];
    for _ in 0..5 {
        let (began, mut times) = (ran_for(), Vec::with_capacity(CALLS));
        for _ in 0..CALLS {
            let began = std::time::Instant::now();
            upstream.open(&request, &call).await.unwrap();
            times.push(micros(began.elapsed()));
        }
        let each = micros(Duration::from_nanos(ran_for() - began)) / CALLS as f64;
        times.sort_by(f64::total_cmp);
        let round = [each, times[CALLS / 2], times[CALLS * 99 / 100]];
        best.iter_mut().zip(round).for_each(|(best, this)| *best = best.min(this));
    }
    best
}

#[tokio::test]
#[ignore = "measures; run it with --release --ignored --nocapture"]
async fn what_the_chain_costs() {
    let bare = well("a");
    let one = chain(&[&bare]);
    let (second, third) = (well("b"), well("c"));
    let three = chain(&[&bare, &second, &third]);
    let limited = chain(&[&failing("a", Kind::RateLimit), &second, &third]);
    let bare = cost_of(bare.as_ref()).await;
    for (name, chain) in [("of one", one), ("of three", three), ("of three, the first left alone", limited)] {
        let cost = cost_of(&chain).await;
        let [cpu, half, most] = [0, 1, 2].map(|at| cost[at] - bare[at]);
        println!("a chain {name}: {cpu:.2} µs of CPU a request, {half:.2} µs more at p50, {most:.2} at p99");
    }
}
