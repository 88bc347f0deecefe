//! What was measured, by round: medians, and ratios within the same round.
//!
//! A ratio is the median of the ratios of each round, so that a machine that is slower in one round than in the next does not show in it.

use std::process::Command;

use super::process::{Cost, cost};

/// The measurements of one thing.
#[derive(Debug, Default)]
pub struct Measure {
    /// Each with its round.
    seconds: Vec<(usize, f64)>,
    /// The most memory of any.
    pub peak_bytes: u64,
    /// What was written, or what a store grew by; none where that is not looked at.
    stored: Vec<f64>,
}

/// All measurements of a database, in the order in which each thing was first measured.
#[derive(Debug, Default)]
pub struct Results {
    /// The round that is going on.
    pub round: usize,
    measures: Vec<(String, Measure)>,
}

/// The median, and the smallest and largest.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// The middle one; the upper of two.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
    /// How many there are.
    pub count: usize,
}

impl Spread {
    /// Returns the spread of values; none where there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let median = *values.get(values.len() / 2)?;
        Some(Self { median, least: values[0], most: values[values.len() - 1], count: values.len() })
    }
}

impl Measure {
    /// Returns the seconds.
    pub fn seconds(&self) -> Option<Spread> {
        Spread::of(self.seconds.iter().map(|(_, seconds)| *seconds))
    }

    /// Returns the bytes written.
    pub fn stored(&self) -> Option<Spread> {
        Spread::of(self.stored.iter().copied())
    }

    fn in_round(&self, round: usize) -> Option<f64> {
        Spread::of(self.seconds.iter().filter(|(of, _)| *of == round).map(|(_, seconds)| *seconds)).map(|spread| spread.median)
    }
}

impl Results {
    fn entry(&mut self, name: &str) -> &mut Measure {
        let at = self.measures.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.measures.push((name.to_owned(), Measure::default()));
            self.measures.len() - 1
        });
        &mut self.measures[at].1
    }

    /// Runs a command, which must succeed, and adds what it cost.
    pub fn measure(&mut self, name: &str, command: &Command) -> Cost {
        let cost = cost(command);
        self.add(name, cost);
        cost
    }

    /// Adds a measurement of this round.
    pub fn add(&mut self, name: &str, cost: Cost) {
        let round = self.round;
        let measure = self.entry(name);
        measure.seconds.push((round, cost.seconds));
        measure.peak_bytes = measure.peak_bytes.max(cost.peak_bytes);
    }

    /// Adds what was written.
    pub fn add_stored(&mut self, name: &str, bytes: u64) {
        self.entry(name).stored.push(bytes as f64);
    }

    /// Returns the measurements of a thing; none where it was not measured.
    pub fn find(&self, name: &str) -> Option<&Measure> {
        self.measures.iter().find(|(known, _)| known == name).map(|(_, measure)| measure)
    }

    /// Returns all measurements with their names.
    pub fn measures(&self) -> impl Iterator<Item = (&str, &Measure)> {
        self.measures.iter().map(|(name, measure)| (name.as_str(), measure))
    }

    /// Returns how the times of one thing are to those of another, each pair of the same round.
    pub fn ratio(&self, name: &str, other: &str) -> Option<f64> {
        let (measure, other) = (self.find(name)?, self.find(other)?);
        Spread::of((0..=self.round).filter_map(|round| Some(measure.in_round(round)? / other.in_round(round)?))).map(|spread| spread.median)
    }

    /// Returns the median of what was written.
    pub fn stored(&self, name: &str) -> Option<f64> {
        self.find(name)?.stored().map(|spread| spread.median)
    }
}
