use std::process::{Child, Command, Stdio};

/// One run of the program, without the environment's own settings.
pub(crate) struct Program {
    command: Command,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn hubbub(args: &[&str]) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubbub"));
    command.args(args).stdin(Stdio::null()).env_clear();
    Program { command }
}

impl Program {
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it and does not wait.
    pub(crate) fn start(mut self) -> Child {
        let quiet = self.command.stdout(Stdio::null()).stderr(Stdio::null());
        quiet.spawn().expect("it starts")
    }

    pub(crate) fn run(mut self) -> Done {
        let output = self.command.output().expect("it starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Done {
            code: output.status.code().expect("no signal"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}
