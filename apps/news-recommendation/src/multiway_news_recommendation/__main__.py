"""``python -m multiway_news_recommendation`` is ``multiway-news-recommendation``."""

from multiway_news_recommendation.cli import main

if __name__ == "__main__":
    main()
