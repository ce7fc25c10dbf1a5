"""``python -m multiway_news_recommendation`` is ``multiway-news-recommendation``."""

from multiway_news_recommendation.app import APP

if __name__ == "__main__":
    APP.main()
