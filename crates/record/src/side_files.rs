//! The files beside a model's weights.

/// How the names of files begin that belong to a model whatever its depth: tokenizer, chat template, generation
/// settings, licence. A list of what is known, because an unknown file may describe the uncut weights.
const BEGIN: &str = "tokenizer special_tokens_map added_tokens vocab merges spiece sentencepiece chat_template \
    generation_config license licence notice copying use_policy acceptable_use";

/// Whether a file of this name belongs to a model whatever its depth, so that a cut has it too.
pub fn is_side_file(name: &str) -> bool {
    let name = name.to_lowercase();
    BEGIN.split(' ').any(|begin| name.starts_with(begin)) || name.ends_with(".tiktoken")
}
