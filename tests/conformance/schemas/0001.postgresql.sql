CREATE TABLE public.crossfade_decisions (
    id bigint NOT NULL,
    rollout text NOT NULL,
    at double precision NOT NULL,
    data text NOT NULL
);
CREATE SEQUENCE public.crossfade_decisions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.crossfade_decisions_id_seq OWNED BY public.crossfade_decisions.id;
CREATE TABLE public.crossfade_events (
    id bigint NOT NULL,
    rollout text NOT NULL,
    revision bigint NOT NULL,
    at double precision NOT NULL,
    kind text NOT NULL,
    data text NOT NULL
);
CREATE SEQUENCE public.crossfade_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.crossfade_events_id_seq OWNED BY public.crossfade_events.id;
CREATE TABLE public.crossfade_evidence (
    rollout text NOT NULL,
    number bigint NOT NULL,
    state bytea NOT NULL
);
CREATE TABLE public.crossfade_meta (
    key text NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.crossfade_ticks (
    rollout text NOT NULL,
    number bigint NOT NULL,
    data bytea NOT NULL
);
ALTER TABLE ONLY public.crossfade_decisions ALTER COLUMN id SET DEFAULT nextval('public.crossfade_decisions_id_seq'::regclass);
ALTER TABLE ONLY public.crossfade_events ALTER COLUMN id SET DEFAULT nextval('public.crossfade_events_id_seq'::regclass);
INSERT INTO public.crossfade_decisions VALUES (1, 'trips', 0, '{"outcome":"stay","sentence":"it''s 5 % of Zürich","n":0}');
INSERT INTO public.crossfade_decisions VALUES (2, 'trips', 0.3333333333333333, '{"outcome":"stay","sentence":"it''s 5 % of Zürich","n":1}');
INSERT INTO public.crossfade_events VALUES (1, 'trips', 1, 0.3333333333333333, 'Paused', '{"by":"ann","n":1}');
INSERT INTO public.crossfade_events VALUES (2, 'trips', 2, 0.6666666666666666, 'Paused', '{"by":"ann","n":2}');
INSERT INTO public.crossfade_events VALUES (3, 'other', 1, 0.3333333333333333, 'Paused', '{"by":"ann","n":1}');
INSERT INTO public.crossfade_events VALUES (4, 'trips', 3, 1, 'Resumed', '{"by":"ann","n":3}');
INSERT INTO public.crossfade_evidence VALUES ('trips', 8, '\x310a73746174652038');
INSERT INTO public.crossfade_meta VALUES ('schema', '1');
INSERT INTO public.crossfade_ticks VALUES ('trips', 7, '\x7b22666f726d6174223a312c226e756d626572223a372c227374617274223a37302e302c226c656e677468223a31302e302c226c6f7374223a322c226d616c666f726d6564223a302c22736f7572636573223a5b2261222c2262225d2c2263656c6c73223a5b5b227631222c225ac3bc72696368222c22222c66616c73652c7b227265717565737473223a317d5d2c5b227632222c22222c2262657461222c747275652c7b227265717565737473223a332c226661696c75726573223a312c22637269746963616c223a312c226c6174656e6379223a5b302c312c3232352c325d2c226661696c696e675f7573657273223a5b302c31383434363734343037333730393535313631355d2c226661637473223a7b2277656174686572223a7b2266616c6c6261636b223a327d7d2c2274696d696e6773223a7b226462223a5b322c302e33303030303030303030303030303030345d7d7d5d5d7d');
INSERT INTO public.crossfade_ticks VALUES ('trips', 8, '\x7b22666f726d6174223a312c226e756d626572223a382c227374617274223a38302e302c226c656e677468223a31302e302c226c6f7374223a322c226d616c666f726d6564223a302c22736f7572636573223a5b2261222c2262225d2c2263656c6c73223a5b5b227631222c225ac3bc72696368222c22222c66616c73652c7b227265717565737473223a317d5d2c5b227632222c22222c2262657461222c747275652c7b227265717565737473223a332c226661696c75726573223a312c22637269746963616c223a312c226c6174656e6379223a5b302c312c3232352c325d2c226661696c696e675f7573657273223a5b302c31383434363734343037333730393535313631355d2c226661637473223a7b2277656174686572223a7b2266616c6c6261636b223a327d7d2c2274696d696e6773223a7b226462223a5b322c302e33303030303030303030303030303030345d7d7d5d5d7d');
SELECT pg_catalog.setval('public.crossfade_decisions_id_seq', 2, true);
SELECT pg_catalog.setval('public.crossfade_events_id_seq', 4, true);
ALTER TABLE ONLY public.crossfade_decisions
    ADD CONSTRAINT crossfade_decisions_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.crossfade_events
    ADD CONSTRAINT crossfade_events_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.crossfade_events
    ADD CONSTRAINT crossfade_events_revision UNIQUE (rollout, revision);
ALTER TABLE ONLY public.crossfade_evidence
    ADD CONSTRAINT crossfade_evidence_pkey PRIMARY KEY (rollout);
ALTER TABLE ONLY public.crossfade_meta
    ADD CONSTRAINT crossfade_meta_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.crossfade_ticks
    ADD CONSTRAINT crossfade_ticks_pkey PRIMARY KEY (rollout, number);
CREATE INDEX crossfade_decisions_latest ON public.crossfade_decisions USING btree (rollout, id);
