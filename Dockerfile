# One small image per service: docker build --build-arg SERVICE=payment_service -t localhost/shop/payment-service:0.1.0 .
# It holds that service, two_phase, and the pinned packages in a virtual environment; it runs read-only and as nobody special.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS packages
COPY requirements.lock /tmp/
# pip stays outside of the environment. Everything is compiled here, because a read-only container could not keep it.
RUN python -m venv --without-pip /opt/shop \
 && python -m pip --python /opt/shop/bin/python install --quiet --no-cache-dir --disable-pip-version-check \
      --require-hashes --only-binary :all: --no-deps -r /tmp/requirements.lock \
 && python -m pip --python /opt/shop/bin/python check --disable-pip-version-check \
 && /opt/shop/bin/python -m compileall -q /opt/shop/lib
WORKDIR /shop
COPY config/alembic.ini config/
COPY two_phase two_phase
COPY service_chassis service_chassis
ARG SERVICE
COPY ${SERVICE} ${SERVICE}
# Fails for a build that names no service, which otherwise would only be noticed in the cluster. The files may come from a
# checkout that nobody but its owner may read, and they must be readable to the user below.
RUN test -f "/shop/${SERVICE}/__main__.py" && /opt/shop/bin/python -m compileall -q /shop && chmod -R a+rX /shop /opt/shop

FROM ${PYTHON_IMAGE}
# Nothing in an image installs anything any more.
RUN rm -rf /usr/local/bin/pip* /usr/bin/pip* /usr/local/lib/python3*/site-packages/pip* /usr/lib/python3/dist-packages/pip*
COPY --from=packages /opt/shop /opt/shop
COPY --from=packages /shop /shop
WORKDIR /shop
ARG SERVICE
ENV PATH=/opt/shop/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/shop PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    SERVICE=${SERVICE}
USER 10001:10001
EXPOSE 8000 8001
# exec: signals reach the service itself.
CMD ["sh", "-c", "exec python -m \"$SERVICE\""]
