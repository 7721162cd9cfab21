"""A LoRA adapter in memory, and its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from eigenscope.adapters.report import Extraction, Resize
from eigenscope.adapters.storing import Slot, write_safetensors
from eigenscope.checkpoints.formats.peft import CONFIG, WEIGHTS
from eigenscope.folders import Contents, new_folder, write_json_file

ADAPTER = Contents("an adapter", CONFIG, (CONFIG, WEIGHTS, "README.md"))
_README = """# A LoRA adapter in PEFT's format

{about}

```python
from peft import PeftModel

model = PeftModel.from_pretrained(base_model, "path/to/this/folder")
```
{notes}"""


@dataclass(frozen=True, eq=False)
class Adapter:
    """Factors and whole tensors, by PEFT's names for them, with the configuration and the report.

    `config` is `adapter_config.json`; `tensors` is `adapter_model.safetensors`; `report` says what was measured.
    """

    config: Mapping[str, object]
    tensors: Mapping[str, Tensor]
    report: Extraction | Resize
    about: str
    sources: tuple[str | os.PathLike[str], ...] = ()  # what it was made of, and is not written over

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write a folder that PEFT loads; it appears as a whole or not at all.

        With `force` an adapter that is there is replaced; other files in the folder stay. Raises `InputError` where the
        folder is there already and `force` is not set, holds something else, is what the adapter was made of (or lies
        in it), or can't be written.
        """
        slots = [Slot(name, tuple(tensor.shape), tensor.dtype) for name, tensor in self.tensors.items()]
        with new_folder(folder, ADAPTER, force=force, sources=self.sources) as partial:
            write_safetensors(partial / WEIGHTS, slots, iter(self.tensors.values()))
            write_json_file(partial / CONFIG, self.config)
            notes = "".join(f"\n- {note}" for note in self.report.notes)
            text = _README.format(about=self.about, notes=f"{notes}\n" if notes else "")
            (partial / "README.md").write_text(text, encoding="utf-8")
        return Path(folder)
