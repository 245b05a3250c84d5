//! Whether an answer repeats itself, by the rule that stops a repetitive generation ([`LoopStop`]): the same tokens
//! several times in a row. Tokens are those of any language, so there is nothing to know of words.

use lopper_infer::LoopStop;

/// Whether some stretch of `tokens` is a loop, as the engine would have stopped it.
pub fn has_loop(tokens: &[u32], stop: LoopStop) -> bool {
    let longest = stop.longest.min(tokens.len());
    (1..=longest).any(|period| {
        let mut run = 0;
        tokens.iter().zip(&tokens[period..]).any(|(before, token)| {
            run = if before == token { run + 1 } else { 0 };
            // A run of r tokens that repeat is r + period tokens of the loop.
            run > 0 && run + period >= (stop.periods * period).max(stop.tokens)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token for each character: more of them than any tokenizer makes, so what is kept here is kept.
    fn loops(text: &str) -> bool {
        let tokens: Vec<u32> = text.chars().map(u32::from).collect();
        has_loop(&tokens, LoopStop::default())
    }

    #[test]
    fn loops_are_found_in_any_language_and_wherever_they_are() {
        assert!(loops(&format!("Sure. {} and so on.", "I like it. ".repeat(9))));
        assert!(loops(&format!("巴黎是法国的首都。{}", "我不知道。".repeat(12))));
        assert!(loops(&"ไม่รู้".repeat(12)));
        assert!(loops(&"нет ".repeat(20)));
        assert!(loops(&format!("def f():\n{}", "    x = x + 1\n".repeat(5))));
        assert!(loops(&"7".repeat(48)) && !loops(&"7".repeat(47)));
        // Units of up to 96 tokens, four times.
        let unit: String = ('一'..).take(96).collect();
        assert!(loops(&unit.repeat(4)) && !loops(&unit.repeat(3)));
    }

    #[test]
    fn lists_tables_code_and_sums_are_none() {
        let verses = "Row, row, row your boat,\nGently down the stream,\nMerrily, merrily, merrily, merrily,\n";
        let table: String = (1..30).map(|n| format!("| {n} | {} | {} |\n", n * n, n * n * n)).collect();
        let sums: String = (1..40).map(|n| format!("{n} + {n} = {}\n", 2 * n)).collect();
        let matrix = r"\begin{pmatrix} 1 & 0 & 0 & 0 \\ 0 & 1 & 0 & 0 \\ 0 & 0 & 1 & 0 \\ 0 & 0 & 0 & 1 \end{pmatrix}";
        let code = "for i in range(n):\n    for j in range(n):\n        for k in range(n):\n            c[i][j] += 1\n";
        let chinese =
            "一闪一闪亮晶晶，满天都是小星星，挂在天上放光明，好像许多小眼睛。一闪一闪亮晶晶，满天都是小星星。";
        for text in [verses, &table, &sums, matrix, code, chinese, "no, no, no, no", "", "x"] {
            assert!(!loops(text), "{text}");
        }
    }
}
