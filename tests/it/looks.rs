//! Who is left alone, with nobody else to ask: how soon somebody looks whether it is well again, and at whom nobody
//! does. Over real connections, as in `faults`.

use crate::faults::{Fault, Mock, Running, link, local, start_with};
use std::time::{Duration, Instant};
use weir::upstream::health::{Ladder, Rules};

/// The first look, where it is not a second that a test has to wait for.
const FIRST: Duration = Duration::from_millis(300);

/// The longest time between two looks.
const LONGEST: Duration = Duration::from_secs(3);

/// As in service, but for the first looks; and whoever is left alone is so for longer than a test takes.
fn rules() -> Rules {
    let long = Ladder::of([Duration::from_mins(5)]);
    Rules { look: Ladder::doubling(FIRST, LONGEST), transient: long, ..Rules::default() }
}

/// Asks again and again for so long; who answered each time.
async fn ask_for(running: &Running, time: Duration) -> Vec<String> {
    let until = Instant::now() + time;
    let mut by = Vec::new();
    while Instant::now() < until {
        let got = running.ask().await;
        assert_eq!(got.status, 200, "{got:?}");
        by.push(got.by);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    by
}

/// The most calls within so long: one, and one after each pause.
fn most_calls(within: Duration) -> usize {
    let ends = (0..30).scan(Duration::ZERO, |end, nth| {
        *end += (FIRST * 2_u32.pow(nth)).min(LONGEST);
        Some(*end)
    });
    1 + ends.filter(|end| *end <= within).count()
}

#[tokio::test]
async fn a_key_that_is_taken_again_is_found_out_soon_where_there_is_only_the_stand_in() {
    let first = Mock::start("first", Fault::Unauthorized).await;
    let running = start_with(vec![link(&first), local()], rules()).await;
    let began = Instant::now();
    let mut by = ask_for(&running, FIRST * 4).await;
    while first.calls() < 2 {
        assert!(began.elapsed() < Duration::from_mins(1), "a minute, and nobody has looked");
        by.extend(ask_for(&running, FIRST).await);
    }
    assert!(by.iter().all(|by| by == "local"), "{by:?}");
    let (calls, most) = (first.calls(), most_calls(began.elapsed()));
    assert!((2..=most).contains(&calls), "asked {calls} times of at most {most}");
    let key = &running.ward.reports()[0].health;
    assert_eq!((key.state, key.reason), ("cooling", Some("auth_permanent")));
    // Somebody has repaired it.
    first.set(Fault::None);
    let repaired = Instant::now();
    while running.ask().await.by != "first" {
        assert!(repaired.elapsed() < Duration::from_mins(1), "a minute, and it has not been asked again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.is_answered_by("first").await;
}

#[tokio::test]
async fn where_another_one_answers_a_refused_key_is_left_alone_for_its_whole_time() {
    let (first, second) =
        (Mock::start("first", Fault::Unauthorized).await, Mock::start("second", Fault::None).await);
    let running = start_with(vec![link(&first), link(&second), local()], rules()).await;
    let by = ask_for(&running, FIRST * 4).await;
    assert!(by.iter().all(|by| by == "second"), "{by:?}");
    assert_eq!(first.calls(), 1);
    // The other one fails, too, and so there is nobody else any more.
    second.set(Fault::Unauthorized);
    first.set(Fault::None);
    assert_eq!(running.ask().await.by, "first", "before the stand-in");
}

#[tokio::test]
async fn one_looks_for_all_who_come_at_the_same_time() {
    let first = Mock::start("first", Fault::Unauthorized).await;
    // After the first look the next one is not due, and the first is not taken for lost, however long all of them take.
    let long = Duration::from_mins(5);
    let rules = Rules { look: Ladder::of([FIRST, long]), probe_every: long, ..rules() };
    let running = start_with(vec![link(&first), local()], rules).await;
    running.ask().await;
    tokio::time::sleep(FIRST + Duration::from_millis(50)).await;
    let asked = (0..30).map(|_| {
        let running = running.clone();
        tokio::spawn(async move { running.ask().await })
    });
    for got in futures_util::future::join_all(asked).await {
        let got = got.unwrap();
        assert_eq!((got.status, got.by.as_str()), (200, "local"), "{got:?}");
    }
    assert_eq!(first.calls(), 2);
}

#[tokio::test]
async fn a_limit_an_empty_account_and_a_silence_are_waited_for_in_full() {
    for fault in
        [Fault::Limited(None), Fault::Limited(Some(60)), Fault::LimitedInWords, Fault::Quota, Fault::Hang]
    {
        let first = Mock::start("first", fault).await;
        let running = start_with(vec![link(&first), local()], rules()).await;
        running.ask().await;
        let calls = first.calls();
        ask_for(&running, FIRST * 2).await;
        assert_eq!(first.calls(), calls, "{fault:?}");
    }
}
