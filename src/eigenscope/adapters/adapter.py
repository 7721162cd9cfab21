"""A LoRA adapter in memory, and its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from eigenscope.adapters.configuration import CONFIG, WEIGHTS
from eigenscope.adapters.report import Extraction, Resize
from eigenscope.adapters.storing import Slot, new_folder, write_json_file, write_safetensors

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

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write a folder that PEFT loads; it appears as a whole or not at all.

        Raises `InputError` where it is there already and `force` is not set, and where it can't be written.
        """
        slots = [Slot(name, tuple(tensor.shape), tensor.dtype) for name, tensor in self.tensors.items()]
        with new_folder(folder, force) as partial:
            write_safetensors(partial / WEIGHTS, slots, iter(self.tensors.values()))
            write_json_file(partial / CONFIG, self.config)
            notes = "".join(f"\n- {note}" for note in self.report.notes)
            text = _README.format(about=self.about, notes=f"{notes}\n" if notes else "")
            (partial / "README.md").write_text(text, encoding="utf-8")
        return Path(folder)
