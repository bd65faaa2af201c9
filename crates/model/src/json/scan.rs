//! Validating without building: facts, and an object's members.

use super::number::{Shape, is_decimal};
use super::reader::{Build, Member, Reader, Result, Text};
use super::{Facts, JsonError, RawMember};

struct FactsOf {
    facts: Facts,
}

impl Build for FactsOf {
    const CHECK_NAMES: bool = true;
    type Value = ();
    type Array = ();
    type Object = ();

    fn null(&mut self) {}
    fn bool(&mut self, _: bool) {}

    fn number(&mut self, literal: &str, shape: Shape) {
        let zero = || shape.negative && is_zero(literal);
        self.facts.odd_number |= shape.exponent || zero();
        self.facts.decimal |= is_decimal(literal, shape);
    }

    fn string(&mut self, _: Text, _: &str) -> Result<()> {
        Ok(())
    }

    fn array(&mut self) {}
    fn element(&mut self, (): &mut (), (): ()) {}
    fn end_array(&mut self, (): ()) {}
    fn object(&mut self, _: u32) {}

    #[inline]
    fn member(&mut self, (): &mut (), member: Member<()>, source: &str) -> Result<()> {
        let name = member.name;
        self.facts.dollar_key |= match source.as_bytes()[name.range().start as usize] {
            b'$' => true,
            b'\\' => name.resolve(source).is_ok_and(|n| n.starts_with('$')),
            _ => false,
        };
        Ok(())
    }

    fn end_object(&mut self, (): (), _: &str) -> Result<()> {
        Ok(())
    }
}

fn is_zero(literal: &str) -> bool {
    literal
        .bytes()
        .take_while(|b| !matches!(b, b'e' | b'E'))
        .all(|b| !matches!(b, b'1'..=b'9'))
}

pub(super) fn facts(bytes: &[u8]) -> Result<Facts> {
    let build = FactsOf {
        facts: Facts::default(),
    };
    let mut reader = Reader::new(bytes, build)?;
    reader.read()?;
    Ok(Facts {
        nul: reader.nul,
        lone_surrogate: reader.lone_surrogate,
        depth: reader.deepest,
        ..reader.build.facts
    })
}

struct MembersOf<F> {
    each: F,
}

impl<F: FnMut(RawMember) -> std::result::Result<(), JsonError>> Build for MembersOf<F> {
    const CHECK_NAMES: bool = true;
    type Value = ();
    type Array = ();
    /// Whether it is the outermost.
    type Object = bool;

    fn null(&mut self) {}
    fn bool(&mut self, _: bool) {}
    fn number(&mut self, _: &str, _: Shape) {}

    fn string(&mut self, _: Text, _: &str) -> Result<()> {
        Ok(())
    }

    fn array(&mut self) {}
    fn element(&mut self, (): &mut (), (): ()) {}
    fn end_array(&mut self, (): ()) {}

    fn object(&mut self, depth: u32) -> bool {
        depth == 1
    }

    #[inline]
    fn member(&mut self, outermost: &mut bool, member: Member<()>, _: &str) -> Result<()> {
        if *outermost {
            (self.each)(RawMember {
                name: member.name.range(),
                name_escaped: member.name.escaped(),
                value: member.range,
            })?;
        }
        Ok(())
    }

    fn end_object(&mut self, _: bool, _: &str) -> Result<()> {
        Ok(())
    }
}

pub(super) fn split(
    bytes: &[u8],
    each: impl FnMut(RawMember) -> std::result::Result<(), JsonError>,
) -> Result<()> {
    Reader::new(bytes, MembersOf { each })?.read()?;
    require_object(bytes)
}

/// Whether a valid JSON text is an object.
fn require_object(bytes: &[u8]) -> Result<()> {
    let first = bytes.iter().find(|b| !b.is_ascii_whitespace());
    if first == Some(&b'{') {
        Ok(())
    } else {
        Err(JsonError::not_object().into())
    }
}
