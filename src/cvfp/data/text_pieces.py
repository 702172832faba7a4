"""Text of tokens that come one by one. A token may end inside a character, which waits for the rest of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cvfp.data.tokenizers import Tokenizer

UNFINISHED = "\ufffd"
"""What `Tokenizer.decode` gives for bytes that are no character (yet)."""


class TextPieces:
    """Decodes tokens that follow a prompt. What is given stays true whatever comes next.

    Joined, the pieces are the text of all tokens behind the prompt, but for bytes at the very end that are no
    character. Decoding starts at the piece before the newest, not at the first token: a token is cheap
    however many there were, and decoders that drop white space at the start of a text drop none.

    Args:
        tokenizer: of the ids.
        prompt: ids of a text.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self.tokenizer = tokenizer
        self._begin(self._last_whole(list(prompt)))

    def add(self, token: int) -> str:
        """The text that is certain now and was not before; empty while a character is unfinished."""
        self.ids.append(token)
        text = self._decode(self.ids)
        whole = text.rstrip(UNFINISHED)
        piece = whole[self.given :]
        if len(whole) == len(text) > self.given:
            self._begin(self.ids[self.known :])
        else:
            self.given = max(self.given, len(whole))
        return piece

    def _begin(self, ids: list[int]) -> None:
        """Go on behind `ids`, whose text has been given."""
        self.ids, self.known, self.given = ids, len(ids), len(self._decode(ids))

    def _last_whole(self, prompt: list[int]) -> list[int]:
        """Few ids from the end of the prompt that begin where a character does."""
        number = 1
        while number < len(prompt):
            text = self._decode(prompt[-number:])
            if text and UNFINISHED not in text:
                return prompt[-number:]
            number *= 2
        return prompt

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(np.array(ids, dtype=np.int64))
