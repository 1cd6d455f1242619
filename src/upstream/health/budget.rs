//! [`Budget`]: how many second tries an upstream is given, so that trouble is not answered with a storm.

use super::Moment;

/// How many second tries there are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetRules {
    /// For each first try, so many second ones.
    pub share: f64,
    /// And so many a minute, for those who are asked seldom.
    pub each_minute: f64,
    /// The most that are saved up.
    pub most: f64,
}

impl Default for BudgetRules {
    fn default() -> Self {
        Self { share: 0.1, each_minute: 10.0, most: 20.0 }
    }
}

/// A bucket of second tries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    left: f64,
    filled: Moment,
}

impl Budget {
    /// A full one.
    pub fn new(now: Moment, rules: &BudgetRules) -> Self {
        Self { left: rules.most, filled: now }
    }

    /// A first try.
    pub fn earn(&mut self, now: Moment, rules: &BudgetRules) {
        self.refill(now, rules);
        self.left = (self.left + rules.share).min(rules.most);
    }

    /// A second one, if there is one left.
    pub fn spend(&mut self, now: Moment, rules: &BudgetRules) -> bool {
        self.refill(now, rules);
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }

    fn refill(&mut self, now: Moment, rules: &BudgetRules) {
        let minutes = now.since(self.filled).as_secs_f64() / 60.0;
        self.left = (self.left + minutes * rules.each_minute).min(rules.most);
        self.filled = self.filled.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_tries_are_a_share_of_the_first_ones_and_a_few() {
        let rules = BudgetRules::default();
        let mut budget = Budget::new(Moment(0), &rules);
        let mut second = 0;
        for nth in 0..1000u64 {
            let now = Moment(nth * 60);
            budget.earn(now, &rules);
            second += u32::from(budget.spend(now, &rules));
        }
        // A tenth of a thousand, twenty that were saved, ten for the minute.
        assert!((125..=130).contains(&second), "{second}");
        assert!(budget.spend(Moment(120_000), &rules), "it comes back with time");
    }

    #[test]
    fn a_clock_that_stands_still_or_jumps_back_gives_nothing() {
        let rules = BudgetRules { most: 1.0, ..BudgetRules::default() };
        let mut budget = Budget::new(Moment(60_000), &rules);
        assert!(budget.spend(Moment(60_000), &rules));
        assert!(!budget.spend(Moment(0), &rules) && !budget.spend(Moment(60_000), &rules));
    }
}
