//! The control of healing: the data's own answers in place of the uncut model's, to the same prompts.
//!
//! Only prompts whose self-generated answer can be learned from count, so that both trainings have the same prompts
//! and, but for answers that the data lacks, as many steps.

use lopper_heal::self_generated::sample_seed;
use lopper_heal::{EvaluatedTexts, Example, ExampleText, OverlapCheck, SgrOptions, SgrRow};
use lopper_infer::Finish;
use lopper_model::chat::Message;
use lopper_record::study::AnswerCounts;
use lopper_record::{Fault, Result, key_hash};

use crate::kept_answers::{LeftOut, without_overlap};
use crate::training::{PromptText, TrainingPrompt};

/// Reference answers as examples.
pub struct ReferenceAnswers {
    pub examples: Vec<Example>,
    /// Prompts without an answer are excluded as empty.
    pub counts: AnswerCounts,
    /// What was left out for overlap.
    pub overlap: LeftOut,
    /// Hash of the examples.
    pub hash: String,
}

impl ReferenceAnswers {
    /// The reference answers to those prompts of `training` that `rows` respond to; `options` are those of the
    /// responses, `data` is what the study file calls the data. Answers in which one of `evaluated` is are left out.
    ///
    /// # Errors
    /// A [`Fault`] where the data has no answer.
    pub fn of(
        rows: &[SgrRow],
        training: &[TrainingPrompt],
        options: &SgrOptions,
        (data, evaluated): (&str, (&EvaluatedTexts, OverlapCheck)),
    ) -> Result<Self> {
        let (mut examples, mut counts) = (Vec::new(), AnswerCounts::default());
        let mut rows = rows.iter().peekable();
        for (index, prompt) in training.iter().enumerate() {
            // Rows are in the order of their prompts, and the seed of a response is its prompt's and its own number's.
            let mut responded = false;
            for sample in 0..options.samples {
                let seed = sample_seed(options.seed, index, sample)?;
                responded |= rows.next_if(|row| row.seed == seed).is_some();
            }
            if !responded {
                continue;
            }
            counts.answers += 1;
            if prompt.reference.trim().is_empty() {
                counts.empty += 1;
                continue;
            }
            counts.used += 1;
            examples.push(example(prompt, options));
        }
        if examples.is_empty() {
            return Err(missing(data).into());
        }
        let overlap = without_overlap(&mut examples, |example| &example.text, evaluated)?;
        counts.overlap = overlap.tasks.values().sum();
        counts.used -= counts.overlap;
        let texts: Vec<&ExampleText> = examples.iter().map(|example| &example.text).collect();
        let hash = key_hash(&texts)?;
        Ok(Self { examples, counts, overlap, hash })
    }
}

/// The fault of data without any answer.
pub fn missing(data: &str) -> Fault {
    Fault::new("there are no reference answers to heal a control on")
        .expected("rows with answers, such as `instruction` and `output`, or messages of the assistant")
        .got(format!("no answer in `heal.data`, {data}"))
        .hint("`heal.answer_column` names the column that holds them; `heal.control = false` leaves it out")
}

fn example(training: &TrainingPrompt, options: &SgrOptions) -> Example {
    let answer = training.reference.clone();
    match &training.prompt {
        PromptText::Chat(conversation) => {
            let mut conversation = conversation.clone().with_system(options.system.as_deref());
            conversation.messages.push(Message::assistant(answer));
            Example { text: ExampleText::Chat(conversation), tokens: None, finish: None }
        }
        PromptText::Plain { prompt, delimiter, stop } => {
            // What stops a response is learned with it, as of self-generated ones.
            let stop = stop.iter().find(|stop| !stop.is_empty()).cloned().unwrap_or_default();
            let finish = (!stop.is_empty()).then_some(Finish::StopString);
            let response = format!("{delimiter}{answer}{stop}");
            Example { text: ExampleText::Plain { prompt: prompt.clone(), response }, tokens: None, finish }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn training(answers: &[&str]) -> Vec<TrainingPrompt> {
        let prompt = |(at, answer): (usize, &&str)| TrainingPrompt {
            prompt: match at % 2 {
                0 => PromptText::Chat(vec![Message::user(format!("question {at}"))].into()),
                _ => PromptText::Plain {
                    prompt: format!("text {at}"),
                    delimiter: " ".into(),
                    stop: vec![String::new(), "\n".into()],
                },
            },
            answer: String::new(),
            reference: (*answer).to_owned(),
            check: None,
        };
        answers.iter().enumerate().map(prompt).collect()
    }

    fn responded(indices: &[usize], options: &SgrOptions) -> Vec<SgrRow> {
        let row = |index: &usize| SgrRow {
            text: ExampleText::Plain { prompt: "p".into(), response: "r".into() },
            finish: Finish::Stop,
            seed: sample_seed(options.seed, *index, 0).unwrap(),
            sample: None,
            task: None,
            verified: None,
            tokens: 1,
            recorded: None,
        };
        indices.iter().map(row).collect()
    }

    fn of(rows: &[SgrRow], training: &[TrainingPrompt], options: &SgrOptions) -> Result<ReferenceAnswers> {
        let nothing = EvaluatedTexts::default();
        ReferenceAnswers::of(rows, training, options, ("own.jsonl", (&nothing, OverlapCheck::Ngram)))
    }

    #[test]
    fn a_control_has_the_prompts_of_the_responses_with_the_datas_answers() {
        let options = SgrOptions { seed: 5, system: Some("sys".into()), ..SgrOptions::default() };
        let training = training(&["a", "b", "c", "d", " "]);
        let reference = of(&responded(&[0, 3, 4], &options), &training, &options).unwrap();
        assert_eq!((reference.counts.answers, reference.counts.used, reference.counts.empty), (3, 2, 1));
        let [chat, plain] = reference.examples.as_slice() else { panic!("{}", reference.examples.len()) };
        let ExampleText::Chat(conversation) = &chat.text else { panic!("{chat:?}") };
        let said: Vec<_> = conversation.messages.iter().map(|message| message.text().into_owned()).collect();
        assert_eq!(said, ["sys", "question 0", "a"]);
        let expected = ExampleText::Plain { prompt: "text 3".into(), response: " d\n".into() };
        assert_eq!((&plain.text, plain.finish), (&expected, Some(Finish::StopString)));
        let other = of(&responded(&[0], &options), &training, &options).unwrap();
        assert_ne!(other.hash, reference.hash);
    }

    #[test]
    fn data_without_answers_is_no_control() {
        let options = SgrOptions::default();
        let none = of(&responded(&[0], &options), &training(&[""]), &options);
        let fault = none.err().unwrap().into_fault().unwrap();
        assert!(fault.got.unwrap().contains("own.jsonl") && fault.hint.unwrap().contains("heal.answer_column"));
    }
}
