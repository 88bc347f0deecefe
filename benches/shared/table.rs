//! Results as Markdown that can stand in a page as it is.

use super::results::{Results, Spread};

/// What a measured figure is compared with.
pub struct Bar {
    /// What is measured, and against what.
    pub what: String,
    /// The figure to reach; at most, or at least.
    pub bar: f64,
    /// The one to reach for; none where there is no other.
    pub stretch: Option<f64>,
    /// What was measured; none where that could not be.
    pub measured: Option<f64>,
    /// Whether more is better.
    pub is_least: bool,
    /// What stands behind a figure.
    pub unit: &'static str,
}

impl Bar {
    /// A figure that is to be at most so much.
    pub fn at_most(what: &str, bar: f64, stretch: Option<f64>, measured: Option<f64>, unit: &'static str) -> Self {
        Self { what: what.to_owned(), bar, stretch, measured, is_least: false, unit }
    }

    fn is_reached(&self, bar: f64) -> bool {
        self.measured.is_some_and(|measured| if self.is_least { measured >= bar } else { measured <= bar })
    }

    fn verdict(&self) -> &'static str {
        match self.measured {
            None => "not measured",
            Some(_) if self.stretch.is_some_and(|stretch| self.is_reached(stretch)) => "met, and the stretch",
            Some(_) if self.is_reached(self.bar) => "met",
            Some(_) => "**missed**",
        }
    }
}

/// Prints bars and whether they are met; returns how many are not.
pub fn print_bars(bars: &[Bar]) -> usize {
    println!("| | bar | stretch | measured | |\n|---|---|---|---|---|");
    for bar in bars {
        let figure = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |figure| format!("{}{}", short(figure), bar.unit));
        println!("| {} | {} | {} | {} | {} |", bar.what, figure(Some(bar.bar)), figure(bar.stretch), figure(bar.measured), bar.verdict());
    }
    println!();
    bars.iter().filter(|bar| !bar.is_reached(bar.bar)).count()
}

/// Prints everything that was measured, with its ratio to `base`.
pub fn print_results(results: &Results, base: &str) {
    println!("| | seconds, median (least to most) | n | times `{base}` | bytes written | peak memory |\n|---|---|---|---|---|---|");
    for (name, measure) in results.measures() {
        let Some(seconds) = measure.seconds() else { continue };
        let ratio = results.ratio(name, base).map_or_else(|| "-".to_owned(), short);
        let stored = measure.stored().map_or_else(|| "-".to_owned(), |stored| size(stored.median));
        let peak = if measure.peak_bytes == 0 { "-".to_owned() } else { size(measure.peak_bytes as f64) };
        println!("| {} | {} | {} | {ratio} | {stored} | {peak} |", name.replace('|', "\\|"), spread(seconds), seconds.count);
    }
    println!();
}

/// Writes a median with its spread.
pub fn spread(spread: Spread) -> String {
    let Spread { median, least, most, count } = spread;
    if count == 1 { short(median) } else { format!("{} ({} to {})", short(median), short(least), short(most)) }
}

/// Writes a figure with about three digits.
pub fn short(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.0995 => format!("{figure:.4}"),
        size if size < 9.995 => format!("{figure:.2}"),
        size if size < 99.95 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}

/// Writes a number of bytes.
pub fn size(bytes: f64) -> String {
    if bytes.abs() < 1e6 { format!("{} KB", short(bytes / 1e3)) } else { format!("{} MB", short(bytes / 1e6)) }
}
