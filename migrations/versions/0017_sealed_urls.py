"""The URL of a webhook whole, encrypted: it may hold a credential of its receiver's. `url` is what may be seen of it; of webhooks
that were made before, it is the whole until their URL is changed."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("webhooks", sa.Column("sealed_url", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("webhooks", "sealed_url")
