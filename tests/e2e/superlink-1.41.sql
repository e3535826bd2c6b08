-- What a coordinator on Flower 1.41.0 leaves in superlink/state.db after one site was admitted and one run has failed: its
-- tables, and its rows but for nonces and logs. The site's public key stands as one zero byte: a test puts in its own.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('d90a2f91f23c');
CREATE TABLE "automation" (
	automation_id INTEGER NOT NULL, 
	federation_id VARCHAR NOT NULL, 
	flwr_aid VARCHAR NOT NULL, 
	series_id BIGINT NOT NULL, 
	status VARCHAR NOT NULL, 
	created_at TIMESTAMP NOT NULL, 
	updated_at TIMESTAMP NOT NULL, 
	next_run_at TIMESTAMP NOT NULL, 
	fixed_interval BIGINT, 
	remaining_runs INTEGER, 
	stopped_at TIMESTAMP, 
	start_run_request BLOB, 
	PRIMARY KEY (automation_id)
);
CREATE TABLE compacted_contexts (
	id INTEGER NOT NULL, 
	series_id BIGINT NOT NULL, 
	through_event_id BIGINT NOT NULL, 
	text TEXT NOT NULL, 
	created_at TIMESTAMP NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (series_id, through_event_id)
);
CREATE TABLE "connector" (
	connector_id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	federation_id VARCHAR NOT NULL, 
	connector_ref VARCHAR NOT NULL, 
	credentials_json VARCHAR NOT NULL, 
	config_json VARCHAR NOT NULL, 
	created_at TIMESTAMP NOT NULL, 
	deleted_at TIMESTAMP, 
	created_by VARCHAR NOT NULL, 
	deleted_by VARCHAR
);
CREATE TABLE "connector_oauth_session" (
	oauth_session_id VARCHAR NOT NULL, 
	flwr_aid VARCHAR NOT NULL, 
	connector_ref VARCHAR NOT NULL, 
	state VARCHAR NOT NULL, 
	redirect_uri VARCHAR NOT NULL, 
	pkce_verifier VARCHAR, 
	created_at TIMESTAMP NOT NULL, 
	expires_at TIMESTAMP NOT NULL, 
	completed_at TIMESTAMP, 
	federation_id VARCHAR NOT NULL, 
	PRIMARY KEY (oauth_session_id)
);
CREATE TABLE fab (
	fab_hash VARCHAR NOT NULL, 
	content BLOB NOT NULL, 
	verifications VARCHAR NOT NULL, 
	PRIMARY KEY (fab_hash)
);
INSERT INTO "fab" VALUES('101d2d3f38c9e4bdc1e65e5c44e1e5ea8d99c08fe15bdd6a504b0ecf35af22fb',X'504B030414000000000000004159B79FE7DB73010000730100000E000000707970726F6A6563742E746F6D6C5B70726F6A6563745D0A6E616D65203D20226665646D696E65742D62756E646C65220A76657273696F6E203D2022312E302E30220A6465736372697074696F6E203D20224E616D6573206F66207468652061707073207468617420657665727920656E642068617320696E7374616C6C65643B20686F6C6473206E6F20636F6465220A6C6963656E7365203D20224170616368652D322E30220A646570656E64656E63696573203D205B5D0A0A5B746F6F6C2E666C77722E6170705D0A7075626C6973686572203D20226665646D696E6574220A6661622D696E636C756465203D205B0A2020202022707970726F6A6563742E746F6D6C222C0A5D0A0A5B746F6F6C2E666C77722E6170702E636F6D706F6E656E74735D0A736572766572617070203D20227365727665722E6170703A617070220A636C69656E74617070203D2022636C69656E742E6170703A617070220A0A5B746F6F6C2E666C77722E6170702E636F6E6669675D0A72756E203D2022220A504B03041400000000000000415926F2A21554000000540000000D0000002E696E666F2F434F4E54454E54707970726F6A6563742E746F6D6C2C366635383363373930373739376631636532343832616536333830353233656139303731383838623235343733303762633730333634363338336561616663352C32393638504B0102140314000000000000004159B79FE7DB73010000730100000E0000000000000000000000800100000000707970726F6A6563742E746F6D6C504B010214031400000000000000415926F2A21554000000540000000D000000000000000000000080019F0100002E696E666F2F434F4E54454E54504B05060000000002000200770000001E0200000000','{}');
CREATE TABLE "federation_app" (
	federation_id VARCHAR NOT NULL, 
	app_id VARCHAR NOT NULL, 
	fab_hash VARCHAR NOT NULL, 
	app_type VARCHAR NOT NULL, 
	added_by VARCHAR NOT NULL, 
	added_at TIMESTAMP NOT NULL, 
	is_hub_app BOOLEAN, 
	updated_at TIMESTAMP NOT NULL, display_name VARCHAR, description VARCHAR, color VARCHAR, 
	PRIMARY KEY (federation_id, app_id)
);
INSERT INTO "federation_app" VALUES('@none/default','@fedminet/fedminet-bundle','101d2d3f38c9e4bdc1e65e5c44e1e5ea8d99c08fe15bdd6a504b0ecf35af22fb','flwr-serverapp','<id:none>','2026-11-29 01:37:41.745990+00:00',0,'2026-11-29 01:37:41.745995+00:00',NULL,'Names of the apps that every end has installed; holds no code',NULL);
CREATE TABLE message (
	message_id VARCHAR NOT NULL, 
	run_id BIGINT NOT NULL, 
	src_node_id BIGINT NOT NULL, 
	dst_node_id BIGINT NOT NULL, 
	src_task_id BIGINT, 
	dst_task_id BIGINT, 
	reply_to_message_id VARCHAR, 
	group_id VARCHAR NOT NULL, 
	created_at DOUBLE NOT NULL, 
	ttl DOUBLE NOT NULL, 
	message_type VARCHAR NOT NULL, 
	expires_at TIMESTAMP NOT NULL, 
	cleared BOOLEAN DEFAULT (false) NOT NULL, 
	acknowledged_at TIMESTAMP, 
	cancelled_at TIMESTAMP, 
	PRIMARY KEY (message_id), 
	CONSTRAINT ck_message_terminal_timestamps_exclusive CHECK (acknowledged_at IS NULL OR cancelled_at IS NULL), 
	CONSTRAINT ck_message_terminal_timestamps_require_cleared CHECK (cleared OR (acknowledged_at IS NULL AND cancelled_at IS NULL)), 
	FOREIGN KEY(reply_to_message_id) REFERENCES message (message_id) ON DELETE RESTRICT
);
CREATE TABLE "message_ins" (
	message_id VARCHAR, 
	group_id VARCHAR, 
	run_id BIGINT, 
	src_node_id BIGINT, 
	dst_node_id BIGINT, 
	reply_to_message_id VARCHAR, 
	created_at FLOAT, 
	delivered_at VARCHAR, 
	ttl FLOAT, 
	message_type VARCHAR, 
	content BLOB, 
	error BLOB, 
	UNIQUE (message_id), 
	FOREIGN KEY(run_id) REFERENCES run (run_id)
);
CREATE TABLE "message_res" (
	message_id VARCHAR, 
	group_id VARCHAR, 
	run_id BIGINT, 
	src_node_id BIGINT, 
	dst_node_id BIGINT, 
	reply_to_message_id VARCHAR, 
	created_at FLOAT, 
	delivered_at VARCHAR, 
	ttl FLOAT, 
	message_type VARCHAR, 
	content BLOB, 
	error BLOB, 
	FOREIGN KEY(run_id) REFERENCES run (run_id), 
	UNIQUE (message_id)
);
CREATE TABLE "node" (
	node_id BIGINT, 
	owner_aid VARCHAR, 
	owner_name VARCHAR, 
	status VARCHAR, 
	registered_at VARCHAR, 
	last_activated_at VARCHAR, 
	last_deactivated_at VARCHAR, 
	unregistered_at VARCHAR, 
	online_until FLOAT, 
	heartbeat_interval FLOAT, 
	public_key BLOB, location VARCHAR, name VARCHAR, 
	UNIQUE (public_key), 
	UNIQUE (node_id)
);
INSERT INTO "node" VALUES(4939180318419398501,'<id:none>','none','registered','2026-11-29T01:37:41.705192+00:00',NULL,NULL,NULL,NULL,30.0,X'00',NULL,'sms');
CREATE TABLE nonce_store (
	namespace VARCHAR NOT NULL, 
	nonce VARCHAR NOT NULL, 
	expires_at FLOAT NOT NULL, 
	PRIMARY KEY (namespace, nonce)
);
CREATE TABLE object_children (
	parent_id VARCHAR NOT NULL, 
	child_id VARCHAR NOT NULL, 
	PRIMARY KEY (parent_id, child_id), 
	FOREIGN KEY(child_id) REFERENCES objects (object_id) ON DELETE CASCADE, 
	FOREIGN KEY(parent_id) REFERENCES objects (object_id) ON DELETE CASCADE
);
CREATE TABLE object_push_session_pending (
	session_id VARCHAR NOT NULL, 
	object_id VARCHAR NOT NULL, 
	PRIMARY KEY (session_id, object_id), 
	FOREIGN KEY(session_id) REFERENCES object_push_sessions (session_id) ON DELETE CASCADE
);
CREATE TABLE object_push_session_roots (
	session_id VARCHAR NOT NULL, 
	root_object_id VARCHAR NOT NULL, 
	PRIMARY KEY (root_object_id), 
	FOREIGN KEY(session_id) REFERENCES object_push_sessions (session_id) ON DELETE CASCADE
);
CREATE TABLE object_push_sessions (
	session_id VARCHAR NOT NULL, 
	run_id BIGINT NOT NULL, 
	expires_at TIMESTAMP NOT NULL, 
	pending_count INTEGER NOT NULL, 
	PRIMARY KEY (session_id)
);
CREATE TABLE "objects" (
	object_id VARCHAR, 
	content BLOB, 
	is_available INTEGER DEFAULT '0' NOT NULL, 
	ref_count INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (object_id), 
	CONSTRAINT ck_objects_is_available CHECK (is_available IN (0, 1)), 
	CONSTRAINT ck_objects_ref_count_nonnegative CHECK (ref_count >= 0)
);
CREATE TABLE objectstore_locks (
	lock_id VARCHAR NOT NULL, 
	lock_value INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (lock_id)
);
INSERT INTO "objectstore_locks" VALUES('mutation',0);
CREATE TABLE "run" (
	run_id BIGINT, 
	fab_id VARCHAR, 
	fab_version VARCHAR, 
	fab_hash VARCHAR, 
	override_config VARCHAR, 
	federation_id VARCHAR, 
	flwr_aid VARCHAR, 
	bytes_sent BIGINT DEFAULT '0', 
	bytes_recv BIGINT DEFAULT '0', 
	clientapp_runtime FLOAT DEFAULT '0.0', 
	federation_config VARCHAR, 
	usage_reported_at VARCHAR DEFAULT ('') NOT NULL, 
	primary_task_id BIGINT NOT NULL, 
	series_id BIGINT, 
	UNIQUE (run_id)
);
INSERT INTO "run" VALUES(1139108341233229532,'fedminet/fedminet-bundle','1.0.0','101d2d3f38c9e4bdc1e65e5c44e1e5ea8d99c08fe15bdd6a504b0ecf35af22fb','{"run": "first"}','@none/default','<id:none>',0,0,0.0,NULL,'',-6054560544853853374,-3867007717809275590);
CREATE TABLE run_connector (
	run_id BIGINT NOT NULL, 
	connector_id INTEGER NOT NULL, 
	PRIMARY KEY (run_id, connector_id)
);
CREATE TABLE "run_objects" (
	run_id BIGINT NOT NULL, 
	object_id VARCHAR NOT NULL, 
	PRIMARY KEY (run_id, object_id), 
	FOREIGN KEY(object_id) REFERENCES objects (object_id) ON DELETE CASCADE
);
CREATE TABLE "run_series" (
	series_id BIGINT NOT NULL, 
	federation_id VARCHAR NOT NULL, 
	description VARCHAR, 
	created_at TIMESTAMP NOT NULL, 
	updated_at TIMESTAMP NOT NULL, 
	is_agent BOOLEAN NOT NULL, 
	PRIMARY KEY (series_id)
);
INSERT INTO "run_series" VALUES(-3867007717809275590,'@none/default',NULL,'2026-11-29 01:37:41.750753+00:00','2026-11-29 01:37:41.750753+00:00',0);
CREATE TABLE series_context (
	series_id BIGINT NOT NULL, 
	context BLOB, 
	PRIMARY KEY (series_id)
);
INSERT INTO "series_context" VALUES(-3867007717809275590,X'08DCBD90BF84A0BBE70F100122002A0E0A0372756E12077205666972737430BAFAA2E2809FE8AACA01');
CREATE TABLE series_runs (
	id INTEGER NOT NULL, 
	series_id BIGINT NOT NULL, 
	run_id BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (run_id)
);
INSERT INTO "series_runs" VALUES(1,-3867007717809275590,1139108341233229532);
CREATE TABLE task (
	task_id BIGINT NOT NULL, 
	type VARCHAR NOT NULL, 
	run_id BIGINT NOT NULL, 
	fab_hash VARCHAR, 
	model_ref VARCHAR, 
	connector_ref VARCHAR, 
	token VARCHAR, 
	active_until TIMESTAMP, 
	pending_at TIMESTAMP NOT NULL, 
	starting_at TIMESTAMP, 
	running_at TIMESTAMP, 
	finished_at TIMESTAMP, 
	sub_status VARCHAR DEFAULT '' NOT NULL, 
	details VARCHAR DEFAULT '' NOT NULL, connector_id INTEGER, 
	UNIQUE (task_id)
);
INSERT INTO "task" VALUES(-6054560544853853374,'flwr-serverapp',1139108341233229532,'101d2d3f38c9e4bdc1e65e5c44e1e5ea8d99c08fe15bdd6a504b0ecf35af22fb',NULL,NULL,NULL,NULL,'2026-11-29 01:37:41.750739+00:00','2026-11-29 01:37:43.914943+00:00','2026-11-29 01:37:46.217734+00:00','2026-11-29 01:37:51.768171+00:00','failed','ServerApp failed with exception: a run of a trial',NULL);
CREATE TABLE task_event (
	id INTEGER NOT NULL, 
	timestamp TIMESTAMP NOT NULL, 
	run_id BIGINT NOT NULL, 
	task_id BIGINT NOT NULL, 
	event VARCHAR NOT NULL, 
	data VARCHAR NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(task_id) REFERENCES task (task_id)
);
CREATE TABLE task_logs (
	timestamp FLOAT NOT NULL, 
	task_id BIGINT NOT NULL, 
	log VARCHAR NOT NULL, 
	FOREIGN KEY(task_id) REFERENCES task (task_id)
);
CREATE TABLE task_message (
	message_id VARCHAR NOT NULL, 
	run_id BIGINT NOT NULL, 
	src_task_id BIGINT NOT NULL, 
	dst_task_id BIGINT NOT NULL, 
	reply_to_message_id VARCHAR, 
	created_at FLOAT NOT NULL, 
	ttl FLOAT NOT NULL, 
	message_type VARCHAR NOT NULL, 
	content BLOB, 
	error BLOB, 
	PRIMARY KEY (message_id), 
	FOREIGN KEY(dst_task_id) REFERENCES task (task_id), 
	FOREIGN KEY(src_task_id) REFERENCES task (task_id)
);
CREATE TABLE task_usage (
	id INTEGER NOT NULL, 
	run_id BIGINT NOT NULL, 
	task_id BIGINT NOT NULL, 
	input_tokens BIGINT, 
	output_tokens BIGINT, 
	total_tokens BIGINT, 
	usage_type VARCHAR NOT NULL, 
	created_at TIMESTAMP NOT NULL, 
	reported_at TIMESTAMP, provider VARCHAR DEFAULT 'unknown' NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(task_id) REFERENCES task (task_id)
);
CREATE INDEX idx_nonce_store_expires_at ON nonce_store (expires_at);
CREATE INDEX idx_task_run_id ON task (run_id);
CREATE INDEX idx_task_token ON task (token);
CREATE INDEX idx_task_active_until ON task (active_until);
CREATE INDEX idx_task_logs_task_id_timestamp ON task_logs (task_id, timestamp);
CREATE INDEX idx_task_message_dst_task_id_created_at ON task_message (dst_task_id, created_at);
CREATE INDEX idx_task_message_run_id ON task_message (run_id);
CREATE INDEX idx_node_status ON node (status);
CREATE INDEX idx_node_owner_aid ON node (owner_aid);
CREATE INDEX idx_online_until ON node (online_until);
CREATE INDEX idx_task_event_run_id_id ON task_event (run_id, id);
CREATE INDEX idx_task_event_task_id ON task_event (task_id);
CREATE INDEX idx_series_runs_series_id ON series_runs (series_id);
CREATE UNIQUE INDEX idx_message_res_reply_to_message_id_unique ON message_res (reply_to_message_id);
CREATE INDEX idx_task_usage_reported_at ON task_usage (reported_at);
CREATE INDEX idx_task_usage_run_id ON task_usage (run_id);
CREATE INDEX idx_task_usage_task_id ON task_usage (task_id);
CREATE INDEX idx_run_series_id ON run (series_id);
CREATE INDEX idx_object_push_sessions_expires_at ON object_push_sessions (expires_at);
CREATE INDEX idx_object_push_sessions_run_id ON object_push_sessions (run_id);
CREATE INDEX idx_object_push_session_pending_object_id_session_id ON object_push_session_pending (object_id, session_id);
CREATE INDEX idx_object_push_session_roots_session_id ON object_push_session_roots (session_id);
CREATE INDEX idx_automation_federation_id_status_updated_at ON automation (federation_id, status, updated_at);
CREATE INDEX idx_automation_status_next_run_at ON automation (status, next_run_at);
CREATE INDEX idx_federation_app_federation_id_added_at ON federation_app (federation_id, added_at);
CREATE INDEX idx_federation_app_app_id_federation_id ON federation_app (app_id, federation_id);
CREATE INDEX idx_message_pending_dst_created_at ON message (dst_node_id, created_at, message_id) WHERE cleared IS 0;
CREATE INDEX idx_message_pending_dst_run_created_at ON message (dst_node_id, run_id, created_at, message_id) WHERE cleared IS 0;
CREATE INDEX idx_message_pending_run_id ON message (run_id) WHERE cleared IS 0;
CREATE INDEX idx_message_reply_to_message_id ON message (reply_to_message_id);
CREATE INDEX idx_compacted_contexts_series_id_id ON compacted_contexts (series_id, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('connector',0);
COMMIT;
