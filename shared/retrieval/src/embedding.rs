//! Turns texts into vectors: by counting words here, or by asking a model elsewhere.

mod gemini;
mod openai;

use std::sync::Arc;

use crate::{
    Error, Settings,
    http::Http,
    lexical::{self, Lexical},
    settings::Provider,
};

/// A vector that has few values other than nought.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sparse {
    /// Where the values are, ascending and each once.
    pub(crate) indices: Vec<u32>,
    /// The values.
    pub(crate) values: Vec<f32>,
}

impl FromIterator<(u32, f32)> for Sparse {
    fn from_iter<T: IntoIterator<Item = (u32, f32)>>(weights: T) -> Self {
        let (indices, values) = weights.into_iter().unzip();
        Self { indices, values }
    }
}

/// What a text becomes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Vector {
    /// Of its words.
    Sparse(Sparse),
    /// Of its meaning, as a model has it.
    Dense(Vec<f32>),
}

impl Vector {
    /// How many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Sparse(sparse) => size_of_val(&*sparse.indices) + size_of_val(&*sparse.values),
            Self::Dense(values) => size_of_val(&**values),
        }
    }

    /// Whether there is nothing in the text that could be found, or that could find anything.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Sparse(sparse) => sparse.indices.is_empty(),
            Self::Dense(values) => values.is_empty(),
        }
    }
}

/// What a text is embedded for: models treat the two differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be found.
    Document,
    /// To search by.
    Query,
}

/// What kind of vectors a collection has, under which name. The name says how they are made, and so the collection
/// remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Space {
    /// The vectors' name.
    pub(crate) name: String,
    /// How many values a dense vector has; none for sparse ones.
    pub(crate) dimension: Option<usize>,
}

/// Makes vectors as the settings say. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Embedder {
    Lexical(Arc<Lexical>),
    Model { http: Http, model: Arc<Model> },
}

/// A model behind an HTTP interface.
#[derive(Debug)]
pub(crate) enum Model {
    OpenAi(openai::OpenAi),
    Gemini(gemini::Gemini),
}

impl Embedder {
    /// # Errors
    ///
    /// [`Error`], where HTTP or the rules for words cannot be set up.
    pub(crate) fn new(settings: &Settings, http: &Http) -> Result<Self, Error> {
        let model = match &settings.provider {
            Provider::Lexical => return Ok(Self::Lexical(Arc::new(Lexical::new()?))),
            Provider::OpenAi(model) => Model::OpenAi(openai::OpenAi::new(model)),
            Provider::Gemini(model) => Model::Gemini(gemini::Gemini::new(model)),
        };
        Ok(Self::Model { http: http.clone(), model: Arc::new(model) })
    }

    /// The name of the vectors this makes.
    pub(crate) fn space_name(&self) -> String {
        match self {
            Self::Lexical(_) => lexical::SPACE.to_owned(),
            Self::Model { model, .. } => match &**model {
                Model::OpenAi(openai) => name_of("openai", openai.model()),
                Model::Gemini(gemini) => name_of("gemini", gemini.model()),
            },
        }
    }

    /// How many values the model's vectors have, which only it can tell; none for sparse ones.
    ///
    /// # Errors
    ///
    /// [`Error`], where the model could not be asked.
    pub(crate) async fn dimension(&self) -> Result<Option<usize>, Error> {
        match self {
            Self::Lexical(_) => Ok(None),
            Self::Model { http, model } => {
                let probe = model.embed(http, &["dimension"], Purpose::Query).await?;
                Ok(probe.first().map(Vec::len))
            }
        }
    }

    /// Adds to `vectors`, which has those of the first texts, the ones of the rest, so that there is one for every
    /// text, in order. Dense ones have `dimension` values.
    ///
    /// # Errors
    ///
    /// [`Error`], where the model could not be asked or answers something else. What it answered before is kept in
    /// `vectors`.
    pub(crate) async fn embed(
        &self,
        texts: &[&str],
        purpose: Purpose,
        dimension: Option<usize>,
        vectors: &mut Vec<Vector>,
    ) -> Result<(), Error> {
        let rest = texts.get(vectors.len()..).unwrap_or_default();
        match self {
            Self::Lexical(lexical) => vectors.extend(embed_here(lexical, rest, purpose).await?),
            Self::Model { http, model } => {
                for batch in rest.chunks(model.most()) {
                    let found = model.embed(http, batch, purpose).await?;
                    model.check(&found, dimension)?;
                    vectors.extend(found.into_iter().map(Vector::Dense));
                }
            }
        }
        Ok(())
    }
}

/// Counting the words of a large document takes longer than a task may hold a thread that serves others.
async fn embed_here(lexical: &Arc<Lexical>, texts: &[&str], purpose: Purpose) -> Result<Vec<Vector>, Error> {
    let lexical = Arc::clone(lexical);
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    let counting = tokio::task::spawn_blocking(move || {
        let vector = |text: &String| match purpose {
            Purpose::Document => lexical.document(text),
            Purpose::Query => lexical.query(text),
        };
        texts.iter().map(|text| Vector::Sparse(vector(text))).collect()
    });
    counting.await.map_err(|error| Error::Engine { reason: error.to_string() })
}

impl Model {
    /// How many texts fit into one request.
    fn most(&self) -> usize {
        match self {
            Self::OpenAi(_) => openai::MOST,
            Self::Gemini(_) => gemini::MOST,
        }
    }

    /// As many vectors as there are texts.
    async fn embed(&self, http: &Http, texts: &[&str], purpose: Purpose) -> Result<Vec<Vec<f32>>, Error> {
        let vectors = match self {
            Self::OpenAi(openai) => openai.embed(http, texts).await?,
            Self::Gemini(gemini) => gemini.embed(http, texts, purpose).await?,
        };
        if vectors.len() != texts.len() || vectors.iter().any(Vec::is_empty) {
            return Err(self.unusable(format!("{} vectors for {} texts", vectors.len(), texts.len())));
        }
        Ok(vectors)
    }

    fn check(&self, vectors: &[Vec<f32>], dimension: Option<usize>) -> Result<(), Error> {
        match vectors.iter().map(Vec::len).find(|length| Some(*length) != dimension) {
            None => Ok(()),
            Some(length) => Err(self.unusable(format!(
                "vectors of {length} dimensions, where the collection has {}",
                dimension.unwrap_or_default()
            ))),
        }
    }

    fn unusable(&self, reason: String) -> Error {
        let url = match self {
            Self::OpenAi(openai) => openai.url(),
            Self::Gemini(gemini) => gemini.url(),
        };
        Error::Unusable { url, reason }
    }
}

/// Vectors' names become names of folders.
fn name_of(provider: &str, model: &str) -> String {
    let model = model.replace(|letter: char| !letter.is_ascii_alphanumeric() && !".-_".contains(letter), "_");
    format!("{provider}-{model}")
}
