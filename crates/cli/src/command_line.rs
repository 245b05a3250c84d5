//! The command line that was given, as a shell takes it.

/// The command line of this run, with the program's name in place of its path so that others can repeat it.
pub fn command_line() -> String {
    let arguments = std::env::args_os().skip(1).map(|argument| quote(&argument.to_string_lossy()));
    std::iter::once("lopper".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// An argument in quotes where a POSIX shell needs them.
pub fn quote(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn quotes_only_what_needs_it() {
        let quoted = ["", "a-b/c.d", "3,8,19-21", "a b", "it's", "$HOME", "*"].map(quote);
        assert_eq!(quoted, ["''", "a-b/c.d", "3,8,19-21", "'a b'", r"'it'\''s'", "'$HOME'", "'*'"]);
    }
}
