//! Lines on the terminal.

use crossterm::style::Stylize;
use hubbub_stack::Event;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Prints a line. A reader that has gone (`| head`, a closed terminal) is no reason to fail, least
/// of all for the supervisor.
pub(crate) fn say(line: impl std::fmt::Display) {
    writeln!(std::io::stdout(), "{line}").ok();
}

/// Prints progress; colours only on a terminal that wants them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    colour: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let wanted = hubbub_stack::environment::var("NO_COLOR").is_none();
        Self {
            colour: wanted && std::io::stdout().is_terminal(),
        }
    }

    pub(crate) fn event(self, event: &Event) {
        match event {
            Event::Ready { name, detail, took } => self.ready(name, detail, *took),
            Event::Note(text) => say(format_args!("  {} {text}", self.yellow("note"))),
        }
    }

    fn ready(self, name: &str, detail: &str, took: Duration) {
        let seconds = format!("{:.1} s", took.as_secs_f64());
        say(format_args!(
            "  {} {name:<12} {seconds:>7}  {detail}",
            self.green("ok  ")
        ));
    }

    pub(crate) fn heading(self, text: &str) {
        let text = if self.colour {
            text.bold().to_string()
        } else {
            text.to_owned()
        };
        say(text);
    }

    pub(crate) fn green(self, text: &str) -> String {
        if self.colour {
            text.green().to_string()
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        if self.colour {
            text.yellow().to_string()
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn red(self, text: &str) -> String {
        if self.colour {
            text.red().to_string()
        } else {
            text.to_owned()
        }
    }
}
