//! Reads the tables of a parsed document as [`super::spec`] describes them, collecting every problem instead of
//! stopping at the first one, as a derived deserializer would.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Problems;
use super::spec::mistaken::{self, MistakenValue};
use super::spec::{Format, KeySpec, MAX_TEXT_BYTES, Shape, TableSpec};
use super::{pasted, suggest};

/// A value and where it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    pub value: T,
    pub span: Range<usize>,
}

/// One table that is being read. Every method returns `None` for what is absent *or* wrong; the latter has then been
/// reported.
pub struct Section<'a> {
    spec: &'static TableSpec,
    table: &'a DeTable<'a>,
    /// The header, or the braces.
    pub span: Range<usize>,
}

/// An entry of a list that takes both.
pub enum TextOrSection<'a> {
    Text(At<String>),
    Section(Section<'a>),
}

impl<'a> Section<'a> {
    /// Also reports unknown, planned and missing keys.
    pub fn open(
        table: &'a DeTable<'a>,
        span: Range<usize>,
        spec: &'static TableSpec,
        problems: &mut Problems,
    ) -> Section<'a> {
        let section = Section { spec, table, span };
        section.report_strangers(problems);
        section.report_missing(problems);
        section
    }

    /// Whether it is written at all, right or wrong.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether there are keys that the table does not have: what was meant by them is not known.
    pub fn has_strangers(&self) -> bool {
        self.table.keys().any(|key| self.spec.key(key.get_ref()).is_none())
    }

    pub fn text(&self, key: &str, problems: &mut Problems) -> Option<At<String>> {
        let (spec, item) = self.item(key)?;
        let Shape::Text(format) = spec.shape else { return None };
        read_text(item, spec.name, format, problems)
    }

    pub fn integer(&self, key: &str, problems: &mut Problems) -> Option<At<u64>> {
        let (spec, item) = self.item(key)?;
        let Shape::Integer { min, max } = spec.shape else { return None };
        let span = item.span();
        let Some(integer) = item.get_ref().as_integer() else {
            // Often it is in quotes.
            let meant = item.get_ref().as_str().and_then(|text| text.trim().parse().ok());
            let example = meant.filter(|n| (min..=max).contains(n)).unwrap_or(min);
            let example = format!("{example}; it may be from {min} to {max}");
            wrong_type(item, spec.name, "a whole number", &example, self.usual(key), problems);
            return None;
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|n| (min..=max).contains(n)) {
            Some(value) => Some(At { value, span }),
            None => {
                problems
                    .error(&span, format!("`{key}` is out of bounds"))
                    .why(spec.doc)
                    .remedy(format!("use a whole number from {min} to {max}"));
                None
            }
        }
    }

    pub fn flag(&self, key: &str, problems: &mut Problems) -> Option<At<bool>> {
        let (spec, item) = self.item(key)?;
        match item.get_ref().as_bool() {
            Some(value) => Some(At { value, span: item.span() }),
            None => {
                wrong_type(item, spec.name, "true or false", "true", self.usual(key), problems);
                None
            }
        }
    }

    /// One of the words that the specification lists.
    pub fn choice(&self, key: &str, problems: &mut Problems) -> Option<At<&'static str>> {
        let (spec, item) = self.item(key)?;
        let Shape::Choice(words) = spec.shape else { return None };
        let example = format!("\"{}\"", words.first().unwrap_or(&""));
        let Some(text) = item.get_ref().as_str() else {
            wrong_type(item, spec.name, "a text", &example, self.usual(key), problems);
            return None;
        };
        match words.iter().find(|word| **word == text) {
            Some(word) => Some(At { value: word, span: item.span() }),
            None => {
                problems
                    .error(&item.span(), format!("`{key}` is none of {}", quoted(words)))
                    .why(spec.doc)
                    .remedy(suggest::sentence(text, "word", words.iter().copied()));
                None
            }
        }
    }

    /// A list of texts, or a single text where the shape allows one. Entries that are wrong are left out.
    pub fn texts(&self, key: &str, problems: &mut Problems) -> Option<At<Vec<At<String>>>> {
        let (spec, item) = self.item(key)?;
        let (format, max) = match spec.shape {
            Shape::Texts { of, max } => (of, max),
            Shape::TextOrTexts { of, max } => {
                if item.get_ref().is_str() {
                    let text = read_text(item, spec.name, of, problems)?;
                    return Some(At { span: text.span.clone(), value: vec![text] });
                }
                (of, max)
            }
            _ => return None,
        };
        let items = read_list(item, spec, format.example, 1, max, problems)?;
        let value = items.iter().filter_map(|i| read_text(i, spec.name, format, problems)).collect();
        Some(At { value, span: item.span() })
    }

    /// One at least.
    pub fn texts_or_sections(&self, key: &str, problems: &mut Problems) -> Option<Vec<TextOrSection<'a>>> {
        self.read_texts_or_sections(key, 1, problems)
    }

    /// Or none, where something else stands in for them.
    pub fn texts_or_sections_or_none(&self, key: &str, problems: &mut Problems) -> Option<Vec<TextOrSection<'a>>> {
        self.read_texts_or_sections(key, 0, problems)
    }

    fn read_texts_or_sections(&self, key: &str, min: usize, problems: &mut Problems) -> Option<Vec<TextOrSection<'a>>> {
        let (spec, item) = self.item(key)?;
        let Shape::TextsOrTables { text, table, max } = spec.shape else { return None };
        let items = read_list(item, spec, text.example, min, max, problems)?;
        let read = |item: &'a Spanned<DeValue<'a>>| match item.get_ref() {
            DeValue::Table(t) => Some(TextOrSection::Section(Section::open(t, item.span(), table, problems))),
            _ => read_text(item, spec.name, text, problems).map(TextOrSection::Text),
        };
        Some(items.iter().filter_map(read).collect())
    }

    pub fn section(&self, key: &str, problems: &mut Problems) -> Option<Section<'a>> {
        let (spec, item) = self.item(key)?;
        let Shape::Table(table) = spec.shape else { return None };
        open_item(item, table, self.usual(key), problems)
    }

    pub fn sections(&self, key: &str, problems: &mut Problems) -> Vec<Section<'a>> {
        let Some((spec, item)) = self.item(key) else { return Vec::new() };
        let Shape::Tables { of, max } = spec.shape else { return Vec::new() };
        if item.get_ref().is_table() {
            let remedy = match self.usual(key) {
                Some(usual) => usual.remedy.to_owned(),
                None if of.title.starts_with('[') => format!("write `{}` with double brackets", of.title),
                None => "put brackets around it: `[{ … }]`".to_owned(),
            };
            problems.error(&item.span(), format!("`{key}` is one table, and must be a list of tables")).remedy(remedy);
            return Vec::new();
        }
        let example = format!("{{ {} = … }}", of.keys.first().map_or("", |k| k.name));
        let Some(items) = read_list(item, spec, &example, 0, max, problems) else { return Vec::new() };
        items.iter().filter_map(|i| open_item(i, of, self.usual(key), problems)).collect()
    }

    /// How people are told to write it, where they often write something else.
    fn usual(&self, key: &str) -> Option<&'static MistakenValue> {
        mistaken::value(self.spec.title, key)
    }

    fn item(&self, key: &str) -> Option<(&'static KeySpec, &'a Spanned<DeValue<'a>>)> {
        let spec = self.spec.key(key);
        debug_assert!(spec.is_some(), "{key} is not in the specification of {}", self.spec.title);
        Some((spec?, self.table.get(key)?))
    }

    fn report_strangers(&self, problems: &mut Problems) {
        for (key, value) in self.table.iter() {
            let name: &str = key.get_ref();
            if self.spec.key(name).is_some() {
                continue;
            }
            let title = self.spec.title;
            if let Some(planned) = self.spec.planned(name) {
                problems
                    .error(&key.span(), format!("`{name}` is not served yet in this version"))
                    .why("ixgate ignores nothing that it is told; it would run without what you asked for")
                    .remedy(planned.instead);
                continue;
            }
            let is_secret = pasted::names_a_secret(name);
            if is_secret {
                problems.mask(value.span());
            }
            if let Some(mistaken) = mistaken::key(title, name) {
                problems
                    .error(&key.span(), format!("unknown key `{name}` in {title}"))
                    .why(mistaken.why)
                    .remedy(mistaken.remedy);
            } else if is_secret {
                problems
                    .error(&key.span(), format!("`{}` puts a secret into the configuration", pasted::shortened(name)))
                    .why("secrets live in files of their own, so that this file can be shown and shared")
                    .remedy(secret_remedy(name, self.spec));
            } else {
                problems
                    .error(&key.span(), format!("unknown key `{}` in {title}", pasted::shortened(name)))
                    .why("an unknown key is a mistake, or meant for another version")
                    .remedy(suggest::sentence(name, "key", self.spec.keys.iter().map(|k| k.name)));
            }
        }
    }

    fn report_missing(&self, problems: &mut Problems) {
        // Where a planned key stands in for a required one, that has been said already.
        if self.spec.planned.iter().any(|p| self.table.contains_key(p.name)) {
            return;
        }
        self.report_one_of(problems);
        let title = self.spec.title;
        // Nor is what was said of a key that stands for it.
        let is_misnamed = |key: &KeySpec| {
            let mut written = self.table.keys().filter_map(|name| mistaken::key(title, name.get_ref()));
            written.any(|mistaken| mistaken.instead_of == Some(key.name))
        };
        let is_missing = |key: &&KeySpec| {
            let is_there = |name: &&str| self.table.contains_key(*name);
            let has_another = self.spec.instead_of(key.name).iter().any(is_there) || is_misnamed(key);
            key.required && !is_there(&key.name) && !has_another
        };
        for key in self.spec.keys.iter().filter(is_missing) {
            problems
                .error(&self.span, format!("`{}` is missing in {}", key.name, self.spec.title))
                .why(key.doc)
                .remedy(format!("add `{} = {}`", key.name, example(key.shape)));
        }
    }

    fn report_one_of(&self, problems: &mut Problems) {
        let title = self.spec.title;
        let keys = || self.spec.one_of.iter();
        let mut there: Vec<_> = keys().filter_map(|key| self.table.get_key_value(*key)).collect();
        there.sort_by_key(|(key, _)| key.span().start);
        match there[..] {
            [] if !self.spec.one_of.is_empty() => {
                let example =
                    keys().next().and_then(|key| self.spec.key(key)).map_or(String::new(), |k| example(k.shape));
                problems
                    .error(&self.span, format!("one of {} is missing in {title}", quoted(self.spec.one_of)))
                    .why(self.spec.doc)
                    .remedy(format!("add for example `{} = {example}`", self.spec.one_of[0]));
            }
            [(first, _), (second, _), ..] => {
                problems
                    .error(&second.span(), format!("{title} has both `{}` and `{}`", first.get_ref(), second.get_ref()))
                    .why(self.spec.doc)
                    .remedy(format!("keep one of them, and write a second {title} for the other"))
                    .also(&first.span(), "the other one is here");
            }
            _ => {}
        }
    }
}

fn quoted(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

fn open_item<'a>(
    item: &'a Spanned<DeValue<'a>>,
    spec: &'static TableSpec,
    usual: Option<&MistakenValue>,
    problems: &mut Problems,
) -> Option<Section<'a>> {
    match item.get_ref() {
        DeValue::Table(table) => Some(Section::open(table, item.span(), spec, problems)),
        _ => {
            wrong_type(item, spec.title, "a table", &example(Shape::Table(spec)), usual, problems);
            None
        }
    }
}

fn read_text(item: &Spanned<DeValue<'_>>, key: &str, format: Format, problems: &mut Problems) -> Option<At<String>> {
    let Some(text) = item.get_ref().as_str() else {
        wrong_type(item, key, "a text", format.example, None, problems);
        return None;
    };
    if text.is_empty() || text.len() > MAX_TEXT_BYTES || text.contains('\0') {
        problems
            .error(&item.span(), format!("`{key}` is empty, too long or has a zero byte in it"))
            .why(format!("expected {}", format.doc))
            .remedy(format!("write for example {}", format.example));
        return None;
    }
    Some(At { value: text.to_owned(), span: item.span() })
}

fn read_list<'a>(
    item: &'a Spanned<DeValue<'a>>,
    spec: &KeySpec,
    example: &str,
    min: usize,
    max: usize,
    problems: &mut Problems,
) -> Option<&'a [Spanned<DeValue<'a>>]> {
    let name = spec.name;
    let Some(list) = item.get_ref().as_array() else {
        wrong_type(item, name, "a list", &format!("[{example}]"), None, problems);
        return None;
    };
    if list.len() < min {
        problems
            .error(&item.span(), format!("`{name}` is empty"))
            .why(spec.doc)
            .remedy(format!("name at least one, for example [{example}]"));
        return None;
    }
    if list.len() > max {
        problems
            .error(&item.span(), format!("`{name}` has {} entries", list.len()))
            .why("every table of the appliance is bounded")
            .remedy(format!("at most {max} are allowed"));
        return None;
    }
    Some(list)
}

fn wrong_type(
    item: &Spanned<DeValue<'_>>,
    key: &str,
    expected: &str,
    example: &str,
    usual: Option<&MistakenValue>,
    problems: &mut Problems,
) {
    let found = match item.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    let problem = problems.error(&item.span(), format!("`{key}` is {found}, and must be {expected}"));
    match usual {
        Some(usual) => problem.why(usual.why).remedy(usual.remedy),
        None => problem.remedy(format!("write for example {example}")),
    };
}

fn example(shape: Shape) -> String {
    match shape {
        Shape::Text(format) | Shape::TextOrTexts { of: format, .. } => format.example.to_owned(),
        Shape::Integer { min, .. } => min.to_string(),
        Shape::Flag => "true".to_owned(),
        Shape::Choice(words) => format!("\"{}\"", words.first().unwrap_or(&"")),
        Shape::Texts { of, .. } | Shape::TextsOrTables { text: of, .. } => format!("[{}]", of.example),
        Shape::Table(spec) | Shape::Tables { of: spec, .. } => {
            let keys = spec.keys.iter().filter(|k| k.required).map(|k| format!("{} = {}", k.name, example(k.shape)));
            let keys: Vec<_> = keys.collect();
            if keys.is_empty() { "{ … }".to_owned() } else { format!("{{ {} }}", keys.join(", ")) }
        }
    }
}

fn secret_remedy(name: &str, spec: &TableSpec) -> String {
    let keys = || spec.keys.iter().map(|key| key.name);
    let of_that_name = keys().find(|key| key.strip_suffix("_file") == Some(name));
    let key = of_that_name.or(keys().find(|key| key.ends_with("_key_file"))).or(keys().find(|key| *key == "psk_file"));
    let key = key.unwrap_or("private_key_file");
    format!("put it into a file with mode 600, name that in `{key}`, and take the secret for known: make a new one")
}
