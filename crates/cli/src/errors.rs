//! From an error to an exit status and a message: whose fault it was, where, what was expected,
//! what was found, and what to do.

use anyhow::Error;
use lopper_record::{Fault, Interrupted};

/// Exit status of anything that is neither the user's input nor an interrupt.
const FAILED: u8 = 1;
/// Exit status when the user's input is at fault, as clap's for arguments.
const USER: u8 = 2;
/// Exit status after Ctrl-C: 128 + SIGINT, as shells have it.
pub const INTERRUPTED: u8 = 130;

const BOLD_RED: &str = "\x1b[1;31m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

/// The exit status that `error` deserves.
pub fn exit_code(error: &Error) -> u8 {
    if error.chain().any(|cause| cause.is::<Interrupted>()) {
        INTERRUPTED
    } else if fault(error).is_some() {
        USER
    } else {
        FAILED
    }
}

fn fault(error: &Error) -> Option<&Fault> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

/// The message for standard error, several lines without the last line break.
pub fn render(error: &Error, colour: bool) -> String {
    let paint = |text: &str, code: &str| if colour { format!("{code}{text}{RESET}") } else { text.to_owned() };
    let mut lines = Vec::new();
    // Contexts come before the fault that they led to: "reading the plan: not valid JSON".
    let mut message = String::new();
    for cause in error.chain() {
        if !message.is_empty() {
            message.push_str(": ");
        }
        match cause.downcast_ref::<Fault>() {
            Some(fault) => {
                message.push_str(&fault.message);
                lines.extend(fault.file.as_ref().map(|file| ("file", file.display().to_string())));
                lines.extend(fault.expected.clone().map(|text| ("expected", text)));
                lines.extend(fault.got.clone().map(|text| ("got", text)));
                lines.extend(fault.hint.clone().map(|text| ("hint", text)));
                break;
            }
            None => message.push_str(&cause.to_string()),
        }
    }
    let mut text = format!("{} {message}", paint("error:", BOLD_RED));
    for (label, line) in lines {
        text.push_str(&format!("\n  {} {line}", paint(&format!("{label}:"), CYAN)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn statuses_follow_the_cause_through_any_context() {
        let user: anyhow::Result<()> = Err(Fault::new("bad").into());
        assert_eq!(exit_code(&user.context("reading").context("outer").unwrap_err()), 2);
        let stopped: anyhow::Result<()> = Err(Interrupted.into());
        assert_eq!(exit_code(&stopped.context("generating").unwrap_err()), 130);
        assert_eq!(exit_code(&anyhow::anyhow!("disk").context("writing")), 1);
    }

    #[test]
    fn messages_name_everything_once() {
        let fault =
            Fault::new("not valid JSON").file("a/b.json").expected("an object").got("`[`").hint("write it again");
        let error = Error::from(fault).context("reading the plan");
        let text = render(&error, false);
        assert_eq!(
            text,
            "error: reading the plan: not valid JSON\n  file: a/b.json\n  expected: an object\n  got: `[`\n  hint: write it again"
        );
        assert!(render(&error, true).starts_with("\x1b[1;31merror:\x1b[0m"));
        let other = anyhow::anyhow!("disk full").context("writing x");
        assert_eq!(render(&other, false), "error: writing x: disk full");
    }
}
