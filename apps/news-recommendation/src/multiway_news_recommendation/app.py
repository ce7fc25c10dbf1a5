"""The app's declaration."""

from multiway_core.app import App

APP = App(
    name="news-recommendation",
    title="Multiway News Recommendation",
    description="News for a reader, ranked from click logs and explained: which click, which chain of other readers.",
    model="bundled:news-portal",
    cli="multiway_news_recommendation.cli:cli",
    pipeline="multiway_recsys.auto_recommender:from_pretrained",
    recipes="multiway_recsys.recipe:RECIPES",
    demo="multiway_news_recommendation.demo:build_demo",
    quick_evaluation="multiway_news_recommendation.evaluation:quick_evaluation",
    serve="multiway_news_recommendation.server:SERVICE",
    picture="viewer/card.webp",
)
