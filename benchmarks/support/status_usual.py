"""The usual stack for the same task: FastAPI, SQLAlchemy, Casbin's Enforcer, boto3 in threads.

Secret, permission, tenant, current row, presigned URL; one uvicorn process.
"""

import hashlib
import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar
from uuid import UUID, uuid4

import boto3
import casbin
from botocore.config import Config
from fastapi import Depends, FastAPI, Header, HTTPException, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from sqlalchemy import DateTime, ForeignKey, String, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

logging.getLogger("casbin").setLevel(logging.CRITICAL)

engine = create_async_engine(
    os.environ["BATCHD_DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://"),
    pool_size=10,
    max_overflow=0,
)
sessions = async_sessionmaker(engine, expire_on_commit=False)
HERE = Path(__file__).parent
enforcer = casbin.Enforcer(
    str(HERE / "status_usual_model.conf"), str(HERE / "status_usual_policy.csv")
)
s3 = boto3.client(
    "s3",
    endpoint_url=os.environ["BATCHD_S3_ENDPOINT"],
    region_name="us-east-1",
    aws_access_key_id=os.environ["BATCHD_S3_ACCESS_KEY"],
    aws_secret_access_key=os.environ["BATCHD_S3_SECRET_KEY"],
    config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
)
app = FastAPI()


class Base(DeclarativeBase):
    type_annotation_map: ClassVar = {datetime: DateTime(timezone=True)}


class User(Base):
    __tablename__ = "users"
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    account: Mapped[UUID]
    role: Mapped[str]
    disabled_ts: Mapped[datetime | None]


class Secret(Base):
    __tablename__ = "secrets"
    hash: Mapped[bytes] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.user_id"))
    validity_ts: Mapped[datetime | None]


class Batch(Base):
    __tablename__ = "batches"
    batch: Mapped[UUID] = mapped_column(primary_key=True)
    account: Mapped[UUID]
    status: Mapped[str] = mapped_column(String(collation="C"))
    created_ts: Mapped[datetime]
    updated_ts: Mapped[datetime]
    hash: Mapped[str | None]
    download_key: Mapped[str | None]


class Download(BaseModel):
    validity_ts: float
    url: str


class BatchState(BaseModel):
    batch: UUID
    created_ts: float
    status: str
    updated_ts: float
    hash: str | None = None
    download: Download | None = None


async def session() -> Any:
    async with sessions() as new_session:
        yield new_session


Session = Annotated[AsyncSession, Depends(session)]


async def caller(session: Session, authorization: Annotated[str, Header()]) -> User:
    digest = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).digest()
    result = await session.execute(
        select(User, Secret.validity_ts).join(Secret).where(Secret.hash == digest)
    )
    row = result.one_or_none()
    if row is None or row[0].disabled_ts or (row[1] and row[1] < datetime.now(UTC)):
        raise HTTPException(401)
    user: User = row[0]
    return user


def presign(batch: Batch) -> Download:
    url = s3.generate_presigned_url(
        "get_object",
        Params={
            "Bucket": os.environ["BATCHD_S3_BUCKET"],
            "Key": batch.download_key,
            "ResponseContentDisposition": f'attachment; filename="{batch.batch}.jsonl"',
        },
        ExpiresIn=3600,
    )
    return Download(validity_ts=int(datetime.now(UTC).timestamp()) + 3600, url=url)


@app.get("/batches/{batch}")
async def get_batch(
    batch: UUID,
    session: Session,
    user: Annotated[User, Depends(caller)],
    *,
    download: bool = False,
) -> Response:
    if not enforcer.enforce(user.role, str(user.account), "get_batch"):
        raise HTTPException(403)
    result = await session.execute(
        select(Batch).where(Batch.batch == batch, Batch.account == user.account)
    )
    row = result.scalar_one_or_none()
    if row is None:
        raise HTTPException(404)
    state = BatchState(
        batch=row.batch,
        created_ts=round(row.created_ts.timestamp(), 3),
        status=row.status,
        updated_ts=round(row.updated_ts.timestamp(), 3),
        hash=row.hash,
        download=await run_in_threadpool(presign, row) if download and row.download_key else None,
    )
    body = json.dumps(state.model_dump(mode="json", exclude_none=True), separators=(",", ":"))
    headers = {"X-Request-Id": uuid4().hex}
    return Response(body, media_type="application/json", headers=headers)
