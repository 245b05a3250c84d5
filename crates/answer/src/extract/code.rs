//! Fenced code in a response.

/// A fenced block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeBlock<'a> {
    /// The first word after the opening fence; empty if there is none.
    pub language: &'a str,
    /// The lines between the fences, with their line ends.
    pub code: &'a str,
    /// Whether it has a closing fence; a block without one ends with the response.
    pub closed: bool,
}

/// The fenced blocks of a response in order, after CommonMark: a fence is three or more backticks or
/// tildes at the start of a line, and closes with at least as many of the same.
pub fn code_blocks(response: &str) -> Vec<CodeBlock<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, &str, usize)> = None;
    let mut at = 0;
    for line in response.split_inclusive('\n') {
        let (start, end) = (at, at + line.len());
        at = end;
        let Some(fence) = fence(line) else { continue };
        let rest = line.trim_start()[fence.len()..].trim();
        match open {
            None => {
                let language = rest.split(|c: char| c.is_whitespace() || c == '{').next().unwrap_or_default();
                open = Some((fence, language, end));
            }
            Some((opening, language, from))
                if rest.is_empty() && fence.len() >= opening.len() && fence[..1] == opening[..1] =>
            {
                blocks.push(CodeBlock { language, code: &response[from..start], closed: true });
                open = None;
            }
            Some(_) => {}
        }
    }
    if let Some((_, language, from)) = open {
        blocks.push(CodeBlock { language, code: &response[from..], closed: false });
    }
    blocks
}

/// The code of the first block marked as Python, or else of the first without a language.
pub fn python_block(response: &str) -> Option<&str> {
    let blocks = code_blocks(response);
    let python = |block: &&CodeBlock<'_>| {
        ["python", "py", "python3"].iter().any(|name| block.language.eq_ignore_ascii_case(name))
    };
    let unmarked = |block: &&CodeBlock<'_>| block.language.is_empty();
    blocks.iter().find(python).or_else(|| blocks.iter().find(unmarked)).map(|block| block.code)
}

/// The fence that a line begins with.
fn fence(line: &str) -> Option<&str> {
    let line = line.trim_start();
    ['`', '~'].into_iter().find_map(|mark| {
        let length = line.len() - line.trim_start_matches(mark).len();
        (length >= 3).then(|| &line[..length])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_with_their_language() {
        let response = "Try:\n```python\ndef f():\n    return 1\n```\nor\n~~~\nx\n```\n~~~\n````py\n```\n";
        let blocks = code_blocks(response);
        let seen: Vec<_> = blocks.iter().map(|block| (block.language, block.code, block.closed)).collect();
        let expected = [("python", "def f():\n    return 1\n", true), ("", "x\n```\n", true), ("py", "```\n", false)];
        assert_eq!(seen, expected);
        assert_eq!(python_block(response), Some("def f():\n    return 1\n"));
    }

    #[test]
    fn a_block_without_a_mark_is_taken_when_no_other_is_python() {
        assert_eq!(python_block("```js\n1\n```\n```\n2\n```"), Some("2\n"));
        assert_eq!(python_block("```Python3\n3"), Some("3"));
        assert_eq!(python_block("```js\n1\n```"), None);
        assert_eq!(python_block("no code"), None);
        assert_eq!(python_block("  ```\r\n4\r\n  ```"), Some("4\r\n"));
    }
}
