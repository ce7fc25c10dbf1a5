"""Fine-tuning for retrieval, questions, statements about two pictures, captions and classes: from files to scores."""
