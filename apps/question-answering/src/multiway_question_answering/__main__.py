"""``python -m multiway_question_answering`` is ``multiway-question-answering``."""

from multiway_question_answering.app import APP

if __name__ == "__main__":
    APP.main()
