//! Progress bars on standard error: only on a terminal, not with `--quiet` or `--json`, and only for work that takes longer than half a
//! second. Warnings are printed in any case.

use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender};
use dbelay::progress::{Progress, Unit};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::Output;

const QUIET_MS_MAX: u64 = 500;
const TICK_MS: u64 = 120;

/// Shows the progress of one piece of work after another.
pub struct Bars<'a> {
    output: &'a Output,
    running: Mutex<Option<Running>>,
}

struct Running {
    bar: ProgressBar,
    /// Dropped, it ends the thread that waits to show the bar.
    patience: Sender<()>,
    shower: JoinHandle<()>,
}

impl<'a> Bars<'a> {
    /// Shows nothing yet.
    pub fn new(output: &'a Output) -> Self {
        Self { output, running: Mutex::new(None) }
    }

    fn swap(&self, next: Option<Running>) -> Option<Running> {
        std::mem::replace(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner), next)
    }
}

impl Progress for Bars<'_> {
    fn begin(&self, what: &str, total: Option<u64>, unit: Unit) {
        self.finish();
        if !self.output.shows_progress() {
            return;
        }
        let bar =
            ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden()).with_style(style(total, unit)).with_message(what.to_owned());
        let (patience, impatience) = crossbeam_channel::bounded::<()>(0);
        let shown = bar.clone();
        let shower = thread::spawn(move || {
            if impatience.recv_timeout(Duration::from_millis(QUIET_MS_MAX)) == Err(RecvTimeoutError::Timeout) {
                shown.set_draw_target(ProgressDrawTarget::stderr());
                shown.enable_steady_tick(Duration::from_millis(TICK_MS));
            }
        });
        self.output.set_bar(Some(bar.clone()));
        self.swap(Some(Running { bar, patience, shower }));
    }

    fn advance(&self, units: u64) {
        if let Some(running) = &*self.running.lock().unwrap_or_else(PoisonError::into_inner) {
            running.bar.inc(units);
        }
    }

    fn finish(&self) {
        if let Some(Running { bar, patience, shower }) = self.swap(None) {
            drop(patience);
            // Once it has ended, it cannot show the bar after it was cleared.
            let _ = shower.join();
            self.output.set_bar(None);
            bar.finish_and_clear();
        }
    }

    fn warn(&self, message: &str) {
        self.output.warn(message);
    }

    fn detail(&self, message: &str) {
        self.output.verbose(1, message);
    }
}

impl Drop for Bars<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

fn style(total: Option<u64>, unit: Unit) -> ProgressStyle {
    let template = match (total, unit) {
        (Some(_), Unit::Bytes) => "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {eta}",
        (Some(_), Unit::Rows) => "{msg} {wide_bar} {human_pos}/{human_len} rows {eta}",
        (Some(_), Unit::Objects) => "{msg} {wide_bar} {human_pos}/{human_len} objects {eta}",
        (None, Unit::Bytes) => "{spinner} {msg} {binary_bytes} {elapsed}",
        (None, Unit::Rows) => "{spinner} {msg} {human_pos} rows {elapsed}",
        (None, Unit::Objects) => "{spinner} {msg} {human_pos} objects {elapsed}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::super::Global;
    use super::super::output::tests::environment;
    use super::*;

    #[test]
    fn every_template_is_valid() {
        for total in [None, Some(1)] {
            for unit in [Unit::Rows, Unit::Bytes, Unit::Objects] {
                let _ = style(total, unit);
            }
        }
    }

    #[test]
    fn work_can_begin_again_without_an_end() {
        let mut environment = environment();
        environment.stderr_terminal = true;
        let output = Output::new(&Global::default(), &environment);
        let bars = Bars::new(&output);
        bars.begin("one", Some(2), Unit::Rows);
        bars.begin("two", None, Unit::Bytes);
        bars.advance(1);
        bars.finish();
        bars.finish();
    }
}
