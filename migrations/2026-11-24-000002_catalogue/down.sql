DROP TABLE practitioner_services;
DROP TABLE services;
DROP TABLE service_categories;
DROP TABLE practitioners;
