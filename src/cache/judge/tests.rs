//! What the judge promises, in pairs.

use super::*;

/// As if the encoder saw no difference at all: the guards alone must tell.
const BLIND: f32 = 0.99;

fn verdict(asked: &str, known: &str) -> Result<Score, Miss> {
    judge(&Question::new(asked), &Question::new(known), BLIND)
}

fn refused(why: Miss, pairs: &[(&str, &str)]) {
    for (asked, known) in pairs {
        assert_eq!(verdict(asked, known), Err(why), "{asked} / {known}");
        assert!(verdict(known, asked).is_err(), "the other way round: {known} / {asked}");
    }
}

#[test]
fn serves_the_same_in_another_dress() {
    let pairs = [
        ("how do i reset my password", "How do I reset my password?"),
        ("Hey, solo track three please!", "solo track 3"),
        ("Volume of track three, please", "volume of track 3?"),
        ("What's the time at 10:30?", "what is the time at 10:30"),
        ("turn the dark mode on", "enable dark mode"),
        (
            "How do I chnage the email adress on my acount?",
            "How do I change the email address on my account?",
        ),
        ("what is 15 percent of 200", "What's 15% of 200?"),
        ("set the timer to twelve mins", "set the timer to 12 minutes"),
        ("convert $40 to yen", "convert 40 dollars to JPY"),
        ("Is this a well-known thing?", "is this a well-known thing"),
        ("what can i do in the USA", "What can I do in the USA?"),
        ("WHAT ARE YOUR OPENING HOURS?", "what are your opening hours?"),
    ];
    for (asked, known) in pairs {
        let score = verdict(asked, known).unwrap_or_else(|miss| panic!("{asked} / {known}: {miss:?}"));
        assert!(score.log_odds() > 2.3, "{asked} / {known}: {score:?}");
    }
}

#[test]
fn only_what_is_the_same_but_for_its_dress_is_all_but_sure() {
    let sure = |asked: &str, known: &str| verdict(asked, known).unwrap().log_odds() >= 8.0;
    assert!(sure("Hi, what's the capital of France? Thanks!", "what is the capital of France"));
    assert!(sure("turn on the light please", "enable the light"));
    assert!(!sure("which city is the capital of France", "what is the capital of France"));
}

#[test]
fn other_numbers_are_other_questions() {
    refused(
        Miss::OtherNumbers,
        &[
            ("solo track 3", "solo track 4"),
            ("solo track three", "solo track four"),
            ("convert 2.5 m", "convert 25 m"),
            ("what is -2 plus 3", "what is 2 plus 3"),
            ("room 7a", "room 7b"),
            ("version 1.2", "version 1.2.0"),
            ("is it 3", "is it"),
            ("send snare to bus A", "send snare to bus C"),
            ("price of the 10GB plan", "price of the 100GB plan"),
            ("order 48213", "order 48231"),
        ],
    );
    refused(Miss::OtherOrder, &[("from 3 to 4", "from 4 to 3")]);
    refused(
        Miss::OtherBounds,
        &[
            ("stores with at least 5 returns", "stores with at most 5 returns"),
            ("stores with more than 5 returns", "stores with 5 returns"),
            ("raise the tempo by 4", "raise the tempo to 4"),
        ],
    );
    refused(
        Miss::OtherUnits,
        &[
            ("put 10 minutes on the clock", "put 10 seconds on the clock"),
            ("how much is 25 yen in dollars", "how much is 25 dollars in yen"),
            ("remind me at 7am", "remind me at 7pm"),
        ],
    );
}

#[test]
fn opposites_are_other_questions() {
    refused(
        Miss::Opposite,
        &[
            ("turn on dark mode", "turn off dark mode"),
            ("is port 6379 open?", "is port 6379 closed?"),
            ("fade in the vocals", "fade out the vocals"),
            ("how do I lock my card", "how do I unlock my card"),
            ("upgrade my plan", "downgrade my plan"),
            ("sort the list in ascending order", "sort the list in descending order"),
            ("benefits of remote work", "drawbacks of remote work"),
            ("how much for adults", "how much for children"),
        ],
    );
    refused(
        Miss::Negated,
        &[
            ("you can do that", "you can't do that"),
            ("Cancel my subscription", "Don't cancel my subscription"),
        ],
    );
    refused(
        Miss::Shunned,
        &[("Should I water succulents in winter?", "Should I stop watering succulents in winter?")],
    );
}

#[test]
fn other_parts_are_other_questions() {
    refused(
        Miss::OtherRoles,
        &[
            ("flights from Rome to Prague", "flights from Prague to Rome"),
            ("flights to Prague from Rome", "flights from Prague to Rome"),
            ("is Mars bigger than Venus", "would you say Venus is bigger than Mars"),
            ("put the kick before the organ", "put the organ before the kick"),
            ("migrate from MySQL to Postgres", "migrate from Postgres to MySQL"),
            ("Can my TV control Alexa?", "Can Alexa control my TV?"),
            ("sidechain the bass from the kick", "have the kick sidechained by the bass"),
        ],
    );
    refused(Miss::OtherOwner, &[("show my account balance", "show our account balance")]);
    refused(Miss::OtherMoment, &[("what to eat during a workout", "what to eat after a workout")]);
    refused(Miss::OtherTime, &[("weather in Oslo today", "weather in Oslo tomorrow")]);
    refused(Miss::OtherLanguage, &[("sort a list in Rust", "sort a list in Go, I mean Python")]);
    refused(Miss::OtherAsked, &[("when was it published", "who published it")]);
    refused(Miss::CountOrList, &[("how many albums has she made", "which albums has she made")]);
    refused(Miss::OtherExtent, &[("do all of the classes have exams", "do the classes have exams")]);
    refused(
        Miss::OtherQuote,
        &[("how do you say \"good night\" in Korean", "how do you say \"good bye\" in Korean")],
    );
}

#[test]
fn turning_a_sentence_round_changes_nothing() {
    for (asked, known) in [
        ("flights to Prague from Rome", "flights from Rome to Prague"),
        ("the difference between cats and dogs", "the difference between dogs and cats"),
        (
            "On train tickets, is there a discount for students?",
            "Is there a discount for students on train tickets?",
        ),
        ("on Friday at 8 am remind me to call mom", "remind me to call mom at 8 am on Friday"),
    ] {
        assert!(verdict(asked, known).is_ok(), "{asked} / {known}: {:?}", verdict(asked, known));
    }
}

#[test]
fn what_the_encoder_is_blind_to_must_be_the_same() {
    for (asked, known) in [
        ("what is 12 + 7", "what is 12 - 7"),
        ("what is 12 * 7", "what is 12 / 7"),
        ("what does grep -v do", "what does grep -V do"),
        ("tell US about it", "tell us about it"),
        ("decode aGVsbG8", "decode AgvSBg8"),
        ("es mi papá", "es mi papa"),
        ("what does 🦄 mean", "what does 🎉 mean"),
        ("is 5 < 7", "is 5 > 7"),
        ("change $5", "change €5"),
    ] {
        assert!(verdict(asked, known).is_err(), "{asked} / {known}");
    }
}

#[test]
fn where_the_guards_do_not_know_the_language_only_the_same_words_will_do() {
    let known = "Wie schalte ich das Licht im Wohnzimmer aus?";
    assert_eq!(verdict("Wie schalte ich das Licht im Wohnzimmer ein?", known), Err(Miss::UnknownLanguage));
    assert_eq!(verdict("Wie schalte ich die Lampe im Wohnzimmer aus?", known), Err(Miss::UnknownLanguage));
    assert!(verdict("wie schalte ich das licht im wohnzimmer aus", known).is_ok());
    assert!(verdict("打开客厅的灯", "关闭客厅的灯").is_err());
}

#[test]
fn nothing_is_sure_of_what_is_not_near() {
    let (asked, known) = (Question::new("how is the weather"), Question::new("who wrote the odyssey"));
    assert!(judge(&asked, &known, 0.05).map_or(true, |score| score.log_odds() < 0.0));
    assert_eq!(judge(&asked, &asked, f32::NAN), Err(Miss::TooFar));
}

#[test]
fn long_texts_are_not_compared_word_by_word() {
    let long = "one more word ".repeat(100);
    assert_eq!(verdict(&long, &long), Err(Miss::TooLong));
}

#[test]
fn the_shipped_weights_can_be_understood() {
    let weights = Weights::shipped().unwrap();
    assert!(weights.trees.0.len() > 100);
}
