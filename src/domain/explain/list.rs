//! Files with one case, or with a list of them.

use serde_json::Value;

use super::{Case, CaseError};

impl Case {
    /// Takes the text of a file: one case, or an object with a list `cases` and the `id` of the one
    /// that is meant. Refuses a list without an id, and an id that is not in it.
    pub fn from_file(text: &str, id: Option<&str>) -> Result<Self, CaseError> {
        let whole: Option<Value> = serde_json::from_str(text).ok();
        let cases = whole.as_ref().and_then(|file| file.get("cases")?.as_array());
        let named = |case: &&Value| case.get("id").and_then(Value::as_str) == id;
        match (cases, id) {
            (None, None) => Self::from_json(text),
            (None, Some(_)) => {
                Err(CaseError::new("cases", "the file has no list of cases to choose from"))
            }
            (Some(cases), None) => {
                let first = cases.iter().find_map(|case| case.get("id")?.as_str());
                let such_as = first.map(|id| format!(", such as --case {id}")).unwrap_or_default();
                let problem = format!("the file has {}; name one{such_as}", cases.len());
                Err(CaseError::new("cases", problem))
            }
            (Some(cases), Some(wanted)) => match cases.iter().find(named) {
                Some(case) => Self::from_value(case.clone()),
                None => Err(CaseError::new("cases", format!("none has the id {wanted}"))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = include_str!("../../../tests/data/slot-cases.json");

    #[test]
    fn one_of_a_list_is_chosen_by_its_id() {
        let file: Value = serde_json::from_str(FILE).unwrap();
        let second = &file["cases"][1];
        let id = second["id"].as_str().unwrap();
        let chosen = Case::from_file(FILE, Some(id)).unwrap();
        assert_eq!(chosen, Case::from_file(&second.to_string(), None).unwrap());
        let unknown = Case::from_file(FILE, Some("nowhere")).unwrap_err();
        assert!(unknown.to_string().contains("nowhere"), "{unknown}");
        let which = Case::from_file(FILE, None).unwrap_err();
        assert!(which.to_string().contains("--case calcom-gs-11"), "{which}");
        assert!(Case::from_file(&second.to_string(), Some(id)).is_err());
        assert!(Case::from_file("nonsense", None).is_err());
    }
}
