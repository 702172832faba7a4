"""CVFP models in transformers. Importing this package makes the model type `cvfp` known to its Auto classes.

    import cvfp.hf
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained("my-model")

Nothing is ever run out of a checkpoint: the code is this package, and `trust_remote_code` is not needed.

Raises:
    InputError: transformers is not installed.
"""

from cvfp.data.extras import require

require("transformers", "transformers")

from transformers import AutoConfig, AutoModelForCausalLM  # noqa: E402

from cvfp.hf.modeling import CvfpConfig, CvfpForCausalLM, CvfpState  # noqa: E402

AutoConfig.register(CvfpConfig.model_type, CvfpConfig, exist_ok=True)
AutoModelForCausalLM.register(CvfpConfig, CvfpForCausalLM, exist_ok=True)

__all__ = ["CvfpConfig", "CvfpForCausalLM", "CvfpState"]
