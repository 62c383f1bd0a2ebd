# One image for the API and the worker; the command selects which one runs.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements requirements
RUN pip install --require-hashes --no-deps --requirement requirements/build.lock \
    && python -m venv --without-pip /opt/batchd \
    && pip --python /opt/batchd/bin/python install --require-hashes --no-deps \
        --requirement requirements/run.lock
COPY LICENSE README.md pyproject.toml setup.cfg ./
COPY app app
COPY migrations migrations
COPY examples examples
COPY policies policies
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/batchd/bin/python install --no-deps dist/*.whl

FROM python:3.13-slim
LABEL org.opencontainers.image.title="batchd" \
    org.opencontainers.image.description="The Batch API that a company runs itself" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/batchd /opt/batchd
# The shipped policies; mount your own folder over them.
COPY policies /etc/batchd/policies
ENV PATH=/opt/batchd/bin:$PATH \
    BATCHD_LISTEN=0.0.0.0:8080 \
    BATCHD_POLICIES=/etc/batchd/policies
# Numeric, so that an orchestrator can verify that it is not root.
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["batchd"]
CMD ["api"]
