"""Text as its tokens come."""

from collections.abc import Iterable, Iterator

from flan_jax import vocabularies

# What stands for bytes that are no character, or not one yet.
_INCOMPLETE = '\ufffd'


def pieces(
    vocabulary: vocabularies.Vocabulary, tokens: Iterable[int]
) -> Iterator[str]:
  """Yields the text of tokens piece by piece; together they are all of it.

  A piece is what the text of all tokens so far has more than what was given
  already: what a token spells depends on its neighbours. A character that is
  spelled in several bytes comes when its last byte has.

  Args:
    vocabulary: What the tokens are of.
    tokens: Ids, as they come. An end ends the text.
  """
  ids: list[int] = []
  given = ''
  text = ''
  for token in tokens:
    ids.append(token)
    text = vocabulary.decode(ids)
    sure = text.rstrip(_INCOMPLETE)
    if len(sure) > len(given) and sure.startswith(given):
      yield sure[len(given) :]
      given = sure
  if len(text) > len(given) and text.startswith(given):
    yield text[len(given) :]
