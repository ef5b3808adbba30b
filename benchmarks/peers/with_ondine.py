"""Ondine: rows of a data frame through a model client that answers at once. It has rows, and no steps of a program."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pandas as pd
from ondine.adapters.llm_client import LLMClient
from ondine.api.pipeline_builder import PipelineBuilder
from ondine.core.models import LLMResponse
from ondine.core.specifications import LLMProvider, LLMSpec

from benchmarks.peers.program import WIDTH, Folder, main


class Same(LLMClient):
    """A model that says what it was asked."""

    def invoke(self, prompt: str, **_: Any) -> LLMResponse:
        return LLMResponse(text=prompt, tokens_in=0, tokens_out=0, model="same", cost=Decimal(0), latency_ms=0.0)

    async def ainvoke(self, prompt: str, **_: Any) -> LLMResponse:
        return self.invoke(prompt)

    def structured_invoke(self, prompt: str, output_cls: type[Any], **_: Any) -> LLMResponse:
        return self.invoke(prompt)

    def estimate_tokens(self, text: str) -> int:
        return len(text)


def run_rows(folder: Folder, count: int) -> int:
    logging.disable(logging.ERROR)
    client = Same(LLMSpec(provider=LLMProvider.OPENAI, model="same", api_key="none"))
    frame = pd.DataFrame({"number": range(count)})
    builder = PipelineBuilder.create().from_dataframe(frame, input_columns=["number"], output_columns=["same"])
    builder = builder.with_prompt("{number}").with_custom_llm_client(client).with_concurrency(WIDTH)
    pipeline = builder.with_checkpoint_dir(str(folder.path / "ondine")).with_progress_mode("none").build()
    return sum(int(number) for number in pipeline.execute().data["same"])


def _no_steps(folder: Folder, count: int = 0) -> Any:
    sys.exit("it has no steps")


def _no_chains(folder: Folder) -> Sequence[int]:
    sys.exit("it has no steps")


if __name__ == "__main__":
    main(_no_steps, _no_steps, _no_chains, run_rows)
