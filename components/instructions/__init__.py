"""Instructions: conversations whose assistant's turns a model is fine-tuned to imitate."""
