//! The files of the trained pocket model, compiled into the program. The same files are in `models/pocket`, a Hugging
//! Face model directory.

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_bytes!(concat!("../../../models/pocket/", $name)).as_slice())),*]
    };
}

/// The files of the model directory: name and content.
pub static FILES: &[(&str, &[u8])] = &files![
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

#[cfg(test)]
mod tests {
    use super::FILES;

    #[test]
    fn small_enough_to_ship_and_of_this_vocabulary() {
        let bytes: usize = FILES.iter().map(|(_, content)| content.len()).sum();
        assert!(bytes <= 12 << 20, "{bytes} bytes");
        let file = |name: &str| FILES.iter().find(|f| f.0 == name).map(|f| f.1).unwrap();
        assert_eq!(file("tokenizer.json"), crate::tokenizer::tokenizer_json().as_bytes());
        let config: serde_json::Value = serde_json::from_slice(file("config.json")).unwrap();
        assert_eq!(config["vocab_size"], crate::tokenizer::vocabulary_size());
    }
}
