"""The model of transformers that has the weights of one of ours."""

from __future__ import annotations

from components.model.huggingface import hugging_face_config, to_hugging_face


def twin_of(model):
    """A model of transformers, of the class our folder would name, in evaluation mode."""
    import transformers

    values = hugging_face_config(model.config)
    architecture = getattr(transformers, values["architectures"][0])
    twin = architecture(architecture.config_class(**values)).eval()
    loaded = twin.load_state_dict(to_hugging_face(model.config, model.state_dict()), strict=False)
    assert not loaded.unexpected_keys
    twin.tie_weights()
    return twin
