//! What an adapter trains besides low-rank matrices, put into the weights of the model that it is loaded onto.

use super::settings::Settings;
use super::{AdapterFile, PREFIX};
use lopper_model::Model;
use lopper_model::param::Param;
use lopper_model::tensors::{EMBEDDING, HEAD, layer_of};
use lopper_record::{Error, Fault, LayerPosition, LayerSet, Result};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The modules of [`EMBEDDING`] and [`HEAD`].
const EMBEDDING_MODULE: &str = "model.embed_tokens";
const HEAD_MODULE: &str = "lm_head";
const TOKENS: &str = ".token_adapter.trainable_tokens_delta";

/// Replaces the rows of trained tokens. Where the head is tied to the embedding and has no rows of its own, it stays
/// tied, as in PEFT.
pub(super) fn put_tokens(
    file: &AdapterFile<'_>,
    settings: &Settings,
    model: &mut Model,
    left: &mut BTreeSet<&str>,
) -> Result<bool> {
    let (rows, width) = (model.embedding.rows, model.embedding.cols);
    let mut changed = false;
    for module in [HEAD_MODULE, EMBEDDING_MODULE] {
        let name = format!("{PREFIX}{module}{TOKENS}");
        if !left.remove(name.as_str()) {
            continue;
        }
        let found = settings.tokens.iter().find(|(end, _)| super::ends_in(module, end));
        let Some((_, ids)) = found.filter(|(_, ids)| ids.iter().all(|id| *id < rows)) else {
            return Err(Fault::new("the adapter does not say which tokens it trained")
                .file(file.path)
                .expected(format!("`trainable_token_indices` with ids below {rows} for `{module}`"))
                .got(found.map_or_else(|| "no ids".to_owned(), |_| "an id beyond the vocabulary".to_owned()))
                .hint("an adapter fits only the model it was trained for")
                .into());
        };
        let values = file.values(&name, &[ids.len(), width])?;
        let matrix = if module == HEAD_MODULE { own_head(model) } else { &mut model.embedding };
        matrix.load();
        let data = Arc::make_mut(&mut matrix.data);
        for (id, row) in ids.iter().zip(values.chunks_exact(width)) {
            data[id * width..][..width].copy_from_slice(row);
        }
        changed = true;
    }
    if !changed && !settings.tokens.is_empty() {
        return Err(lacking(file, "trainable_token_indices", TOKENS));
    }
    Ok(changed)
}

/// Replaces the parameters of modules that were trained whole.
pub(super) fn put_modules(
    file: &AdapterFile<'_>,
    settings: &Settings,
    model: &mut Model,
    kept: &LayerSet<LayerPosition>,
    left: &mut BTreeSet<&str>,
) -> Result<bool> {
    let name_in_file = |name: &str| -> Option<String> {
        let Some((layer, rest)) = layer_of(name) else { return Some(format!("{PREFIX}{name}")) };
        Some(format!("{PREFIX}model.layers.{}.{rest}", kept.place(LayerPosition(layer))?))
    };
    // PEFT trains a copy of a module that it saves; the head keeps the embedding that it was tied to. A whole embedding
    // that is there for another reason is read into the module itself, and the head with it.
    let head_in_file = left.contains(format!("{PREFIX}{HEAD}").as_str());
    let embedding_in_file = left.contains(format!("{PREFIX}{EMBEDDING}").as_str());
    if head_in_file || embedding_in_file && settings.is_saved(EMBEDDING_MODULE) {
        own_head(model);
    }
    let (mut replaced, mut result) = (Vec::<String>::new(), Ok(()));
    model.visit_mut(|name, param| {
        let Some(stored) = name_in_file(name) else { return };
        if result.is_err() || !left.remove(stored.as_str()) {
            return;
        }
        let matrix = [param.rows, param.cols];
        let shape = if name.ends_with("norm.weight") || name.ends_with(".bias") { &matrix[1..] } else { &matrix[..] };
        match file.values(&stored, shape) {
            Ok(values) => *param = Param::matrix(values, param.rows, param.cols),
            Err(error) => result = Err(error),
        }
        replaced.push(name.rsplit_once('.').map_or(name, |(module, _)| module).to_owned());
    });
    result?;
    if let Some(saved) = settings.saved.iter().find(|saved| !replaced.iter().any(|name| ends_in_numbered(name, saved)))
    {
        return Err(lacking(file, "modules_to_save", saved));
    }
    Ok(!replaced.is_empty())
}

/// As [`super::ends_in`], but layers have the numbers of the model that the adapter is loaded onto.
fn ends_in_numbered(name: &str, end: &str) -> bool {
    let unnumbered =
        |name: &str| name.split('.').filter(|part| part.parse::<usize>().is_err()).collect::<Vec<_>>().join(".");
    super::ends_in(&unnumbered(name), &unnumbered(end))
}

fn lacking(file: &AdapterFile<'_>, key: &str, what: &str) -> Error {
    Fault::new(format!("the adapter's settings name a trained part that its weights lack: `{key}`"))
        .file(file.path)
        .expected(format!("weights of `{what}`"))
        .got("none")
        .hint("was the adapter saved whole? PEFT's save_pretrained writes such parts too")
        .into()
}

/// The head, untied from the embedding.
fn own_head(model: &mut Model) -> &mut Param {
    model.config.tie_word_embeddings = false;
    model.head.get_or_insert_with(|| model.embedding.clone())
}
